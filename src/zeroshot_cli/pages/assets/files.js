"use strict";
// What all scripts share. Names, paths and reasons are untrusted: they reach a page through textContent only.
const whole = (count) => count.toLocaleString("en");
const plural = (count, noun) => `${whole(count)} ${noun}${count === 1 ? "" : "s"}`;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function button(text, action) {
  const made = element("button", "button", text);
  made.type = "button";
  made.addEventListener("click", action);
  return made;
}

// Escape what is invisible or reorders text: \n, \xff for a byte that is not UTF-8, \u202e.
function shown(text) {
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

// The original of an image: a link to it, relative to the page where the run's path was, and its path to copy

function linkTo(address, className, text) {
  const link = element("a", className, text);
  link.href = address;
  link.target = "_blank";
  link.rel = "noopener";
  return link;
}

// The whole path, if the page is a file as the image is; else as the run has it.
function pathOf(link, given) {
  const { protocol, pathname } = new URL(link.href);
  if (protocol !== "file:") return given;
  try {
    const path = decodeURIComponent(pathname);
    return /^\/[A-Za-z]:\//.test(path) ? path.slice(1).replaceAll("/", "\\") : path;
  } catch {
    return given; // a name that is not UTF-8
  }
}

async function copy(text, trigger) {
  const place = trigger.closest("dialog") ?? document.body;
  const said = place.querySelector(":scope > .said");
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = place.appendChild(element("textarea", "unseen"));
    field.value = text;
    field.select();
    done = document.execCommand("copy");
    field.remove();
    trigger.focus();
  }
  said.textContent = done ? `Copied ${shown(text)}` : `This browser copies nothing from here: ${shown(text)}`;
  clearTimeout(said.waiting);
  said.waiting = setTimeout(() => said.replaceChildren(), done ? 2500 : 20000);
}
