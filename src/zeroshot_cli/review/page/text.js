// Text and elements of this page, beside those of all pages.
import { shown } from "./shared.js";

export * from "./shared.js";
export const $ = (id) => document.getElementById(id);

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
