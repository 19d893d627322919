// Text and elements. Names, paths and reasons are untrusted: they reach the page through textContent only.

export const $ = (id) => document.getElementById(id);
export const whole = (count) => count.toLocaleString("en");
export const plural = (count, noun) => `${whole(count)} ${noun}${count === 1 ? "" : "s"}`;

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Escape what is invisible or reorders text, as zeroshot_cli/display.py does: \n, \xff for a byte that is not UTF-8.
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

// A path as a shell takes it: itself, or in $'…' if it holds what a clipboard or a person cannot.
export function copied(path) {
  if (shown(path) === path) return path;
  return `$'${shown(path.replace(/[\\']/g, "\\$&"))}'`;
}

// A path in a command: quoted where a shell would read it otherwise.
export function quoted(path) {
  if (shown(path) !== path || /^[\w@%+=:,./-]+$/.test(path)) return copied(path);
  return `'${path.replaceAll("'", "'\\''")}'`;
}

export const fileOf = (path) => shown(path.slice(path.lastIndexOf("/") + 1));

export function percent(share) {
  if (share === null || share === undefined) return "–";
  const rounded = Math.round(100 * share);
  if (rounded === 0 && share > 0) return "< 1 %";
  return rounded === 100 && share < 1 ? "> 99 %" : `${rounded} %`;
}
