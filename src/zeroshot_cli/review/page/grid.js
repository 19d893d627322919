// The grid: only the rows near the window are in the document, so that 5,000 images scroll as 50 do.
// The grid itself keeps the focus and names its active cell, which therefore may come and go.
import { decisionOf, groupOf, said, state } from "./state.js";
import { $, element, fileOf, percent, plural, shown } from "./text.js";

const CARD = 150; // least width in CSS pixels
const NARROW_CARD = 104;
const CAPTION = 43; // height below a thumbnail; review.css has its parts
const GAP = 10;
const HEAD = 42; // height of the name of a label above its rows
const AHEAD = 500; // pixels above and below the window that have rows
const SETTLE = 60; // milliseconds a row is there before its thumbnails are asked for

const grid = $("grid");
const mounted = new Map(); // index of a row → its element
const loaded = new Set(); // thumbnails that the browser has
let rows = []; // { top, group } or { top, from, to }
let rowAt = []; // position of an image → index of its row
let columns = 1;
let rowHeight = 1;
let total = 0; // height of all rows
let active = null;
let anchor = null; // where a range begins
let selection = new Set();
let onMove = () => {};
let onBroken = () => {};

export const current = () => active;
export const selected = () => [...selection];
export const targets = () => (selection.size ? state.shown.filter((image) => selection.has(image)) : active ? [active] : []);

export function setUp(moved, broken) {
  [onMove, onBroken] = [moved, broken];
  grid.addEventListener("scroll", renderSoon, { passive: true });
  grid.addEventListener("mousedown", (event) => event.shiftKey && event.preventDefault()); // no text is selected
  new ResizeObserver(() => layout()).observe(grid);
}

// Layout

export function layout() {
  const width = grid.clientWidth - 2 * parseFloat(getComputedStyle(grid).paddingLeft);
  columns = Math.max(1, Math.floor((width + GAP) / ((width < 560 ? NARROW_CARD : CARD) + GAP)));
  const card = Math.floor((width - GAP * (columns - 1)) / columns);
  rowHeight = card + CAPTION + GAP;
  let top = 0;
  rows = [];
  rowAt = [];
  for (const group of state.groups) {
    rows.push({ top, group });
    top += HEAD;
    for (let from = group.from; from < group.to; from += columns) {
      const to = Math.min(from + columns, group.to);
      for (let at = from; at < to; at++) rowAt.push(rows.length);
      rows.push({ top, from, to });
      top += rowHeight;
    }
  }
  total = top;
  $("rows").style.height = `${top}px`;
  grid.style.setProperty("--card", `${card}px`);
  grid.style.setProperty("--columns", columns);
  grid.setAttribute("aria-rowcount", rows.length);
  grid.setAttribute("aria-colcount", columns);
  for (const row of mounted.values()) drop(row);
  mounted.clear();
  if (active && active.position < 0) active = null;
  selection = new Set([...selection].filter((image) => image.position >= 0));
  if (active) reveal();
  render();
  mark();
}

// The last row that begins at or above a height.
function rowBefore(y) {
  let low = 0;
  let high = rows.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (rows[middle].top <= y) low = middle;
    else high = middle - 1;
  }
  return low;
}

let rendering = false;

function renderSoon() {
  if (rendering) return;
  rendering = true;
  requestAnimationFrame(() => {
    rendering = false;
    render();
  });
}

function render() {
  if (!rows.length) return;
  const first = rowBefore(grid.scrollTop - AHEAD);
  const last = rowBefore(grid.scrollTop + grid.clientHeight + AHEAD);
  const kept = active ? rowAt[active.position] : -1;
  for (const [index, row] of mounted) {
    if ((first <= index && index <= last) || index === kept) continue;
    drop(row);
    mounted.delete(index);
  }
  if (kept >= 0) mount(kept);
  for (let index = first; index <= last; index++) mount(index);
  loadSoon();
}

function drop(row) {
  for (const image of row.querySelectorAll("img")) if (!image.complete) image.removeAttribute("src"); // ends its request
  row.remove();
}

function mount(index) {
  if (mounted.has(index)) return;
  const { top, group, from, to } = rows[index];
  const row = element("div", group ? "head" : "row");
  row.setAttribute("role", "row");
  row.setAttribute("aria-rowindex", index + 1);
  row.style.transform = `translateY(${top}px)`;
  row.since = performance.now();
  if (group) row.append(headOf(group));
  else row.append(...state.shown.slice(from, to).map((image, column) => cellOf(image, column)));
  let next = null;
  let nearest = Infinity;
  for (const [other, there] of mounted) if (other > index && other < nearest) [nearest, next] = [other, there];
  $("rows").insertBefore(row, next);
  mounted.set(index, row);
}

function headOf({ name, from, to }) {
  const head = element("span", "name");
  head.setAttribute("role", "rowheader");
  head.setAttribute("aria-colspan", columns);
  head.append(element("b", "", name), element("span", "number", plural(to - from, "image")));
  return head;
}

// Cells

const blank = element("div", "card");
{
  const frame = element("span", "frame");
  const thumbnail = element("img");
  Object.assign(thumbnail, { alt: "", decoding: "async", draggable: false });
  frame.append(thumbnail, element("span", "badge"));
  const caption = element("span", "caption");
  caption.append(element("b"), element("span", "number"));
  blank.append(frame, caption, element("span", "file"));
  blank.setAttribute("role", "gridcell");
}

function cellOf(image, column) {
  const cell = blank.cloneNode(true);
  cell.id = `image-${image.n}`;
  cell.image = image;
  cell.setAttribute("aria-colindex", column + 1);
  const thumbnail = cell.querySelector("img");
  thumbnail.addEventListener("load", () => loaded.add(image.n));
  thumbnail.addEventListener("error", () => {
    if (thumbnail.isConnected) thumbnail.replaceWith("no preview");
    onBroken();
  });
  if (image.missing) thumbnail.replaceWith("no longer there");
  else if (loaded.has(image.n)) thumbnail.src = `thumb/${image.n}`;
  paint(cell);
  return cell;
}

const SIGNS = { unknown: "?", unwanted: "✕" };

function paint(cell) {
  const { image } = cell;
  const decision = decisionOf(image);
  const change = state.changed.get(image.n);
  const words = decision && said(image, decision);
  const [label, number] = cell.querySelectorAll(".caption > *");
  const badge = cell.querySelector(".badge");
  cell.classList.toggle("decided", Boolean(image.decision && !image.pending));
  cell.classList.toggle("pending", Boolean(image.pending));
  cell.dataset.kind = !decision ? "" : words === "right" ? "right" : decision.kind === "right" ? "label" : decision.kind;
  badge.textContent = !decision ? "" : image.pending ? "…" : words === "right" ? "✓" : SIGNS[decision.kind] ?? "→";
  label.textContent = !decision || words === "right" ? shown(image.label) : words.replace(/^corrected to /, "");
  number.textContent = percent(image.probability);
  const was = decision && words !== "right" ? image.label : change?.was;
  cell.lastChild.textContent = was === undefined ? fileOf(image.path) : `was ${shown(was)}`;
  cell.title = shown(image.path);
  const parts = [shown(image.path), `label ${shown(image.label)}`, percent(image.probability)];
  if (change) parts.push(`was ${shown(change.was)} before training`);
  if (decision) parts.push(image.pending ? `${words}, not saved yet` : words);
  cell.setAttribute("aria-label", parts.join(", "));
  markCell(cell);
}

const cellsOf = (row) => (row.classList.contains("row") ? [...row.children] : []);

export function repaint(images) {
  for (const { n } of images) {
    const cell = $(`image-${n}`);
    if (cell) paint(cell);
  }
}

let timer;

// Ask for the thumbnails of rows that have been there for a moment; those that flew by are never asked for.
function loadSoon() {
  timer ??= setTimeout(() => {
    timer = undefined;
    let left = false;
    for (const row of mounted.values()) {
      if (row.loads) continue;
      if (performance.now() - row.since < SETTLE) left = true;
      else {
        row.loads = true;
        for (const cell of cellsOf(row)) {
          const thumbnail = cell.querySelector("img");
          if (thumbnail && !thumbnail.src) thumbnail.src = `thumb/${cell.image.n}`;
        }
      }
    }
    if (left) loadSoon();
  }, SETTLE);
}

// The active image and the selection

export function moveTo(position, { extend = false, keep = false } = {}) {
  const image = state.shown[position];
  if (!image) return;
  if (extend && anchor && anchor.position >= 0) {
    const [from, to] = [anchor.position, position].sort((a, b) => a - b);
    selection = new Set(state.shown.slice(from, to + 1));
  } else {
    if (!keep) selection = new Set();
    anchor = image;
  }
  active = image;
  reveal();
  render();
  mark();
}

export function toggle(image) {
  if (selection.size === 0 && active && active !== image) selection.add(active); // which looked selected
  if (!selection.delete(image)) selection.add(image);
  [active, anchor] = [image, image];
  render();
  mark();
}

// All of the active image's label; if these are selected already, all that are shown.
export function selectAll() {
  if (!active) return;
  const { from, to } = groupOf(active.position);
  const group = state.shown.slice(from, to);
  const whole = selection.size >= group.length && group.every((image) => selection.has(image));
  selection = new Set(whole ? state.shown : group);
  mark();
}

export function clearSelection() {
  selection = new Set();
  mark();
}

function mark() {
  for (const row of mounted.values()) for (const cell of cellsOf(row)) markCell(cell);
  if (active) grid.setAttribute("aria-activedescendant", `image-${active.n}`);
  else grid.removeAttribute("aria-activedescendant");
  onMove();
}

function markCell(cell) {
  const isSelected = String(selection.has(cell.image));
  if (cell.ariaSelected !== isSelected) cell.ariaSelected = isSelected;
  cell.classList.toggle("active", cell.image === active);
}

// Scroll as little as shows the active image whole, and the name above it if it is in the first row of its label.
function reveal() {
  const index = rowAt[active.position];
  const above = rows[index - 1].group ? rows[index - 1].top : rows[index].top;
  const below = rows[index + 1]?.top ?? total;
  if (above < grid.scrollTop) grid.scrollTop = above;
  else if (below > grid.scrollTop + grid.clientHeight - GAP) grid.scrollTop = below - grid.clientHeight + GAP;
}

// The position that a key leads to, by the geometry of the grid.
export function towards(key) {
  const last = state.shown.length - 1;
  if (!active) return last < 0 ? -1 : 0;
  const at = active.position;
  const page = Math.max(1, Math.floor(grid.clientHeight / rowHeight));
  if (key === "ArrowLeft") return Math.max(0, at - 1);
  if (key === "ArrowRight") return Math.min(last, at + 1);
  if (key === "ArrowUp") return rowsAway(at, -1);
  if (key === "ArrowDown") return rowsAway(at, 1);
  if (key === "PageUp") return rowsAway(at, -page);
  if (key === "PageDown") return rowsAway(at, page);
  if (key === "Home") return 0;
  if (key === "End") return last;
  return -1;
}

// The image so many rows of images further, in the same column or the last one of that row.
function rowsAway(at, by) {
  const column = at - rows[rowAt[at]].from;
  let index = rowAt[at];
  for (let left = Math.abs(by); left > 0; left--) {
    let next = index + Math.sign(by);
    if (rows[next]?.group) next += Math.sign(by);
    if (!rows[next]) break;
    index = next;
  }
  if (index === rowAt[at]) return at;
  return Math.min(rows[index].from + column, rows[index].to - 1);
}
