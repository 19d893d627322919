"use strict";
// What all scripts share. Names, paths and reasons are untrusted: they reach a page through textContent only.
export const whole = (count) => count.toLocaleString("en");
export const plural = (count, noun) => `${whole(count)} ${noun}${count === 1 ? "" : "s"}`;

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export function button(text, action) {
  const made = element("button", "button", text);
  made.type = "button";
  made.addEventListener("click", action);
  return made;
}

// The number in a field, null for none.
export function numberIn(input) {
  return input.value === "" || Number.isNaN(input.valueAsNumber) ? null : input.valueAsNumber;
}

// Escape what is invisible or reorders text: \n, \xff for a byte that is not UTF-8, \u202e.
export function shown(text) {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (char) => {
    const code = char.codePointAt(0);
    if (code === 0x200c || code === 0x200d) return char; // joiners, which emoji and Persian need
    if (code === 10) return "\\n";
    if (code === 13) return "\\r";
    if (code === 9) return "\\t";
    if (code >= 0xdc80 && code <= 0xdcff) return "\\x" + (code - 0xdc00).toString(16);
    if (code < 0x100) return "\\x" + code.toString(16).padStart(2, "0");
    return code < 0x10000 ? "\\u" + code.toString(16).padStart(4, "0") : "\\U" + code.toString(16).padStart(8, "0");
  });
}
