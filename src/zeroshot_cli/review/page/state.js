// What is known of the run: images, decisions, filters, and the order in which images are shown.
import { shown } from "./text.js";

export const state = {
  run: null,
  images: [], // as the server has them; `pending` is a decision that it has not confirmed yet
  shown: [], // those that pass the filters, group after group; each has its `position`
  groups: [], // { key, name, from, to } of `shown`
  changed: new Map(), // by training: number of the image → { was, now, probability }
  ended: false,
};
export const filters = { label: null, folder: null, from: null, to: null, show: "all" };

const UNWANTED = "\0unwanted";
const UNKNOWN = "unknown";
const { compare } = new Intl.Collator("en", { numeric: true });

export const decisionOf = (image) => image.pending ?? image.decision;

// The group of an image: its label, as decided or else as answered.
export function keyOf(image) {
  const decision = decisionOf(image);
  if (!decision) return image.label;
  return { unknown: UNKNOWN, unwanted: UNWANTED }[decision.kind] ?? decision.label;
}

export const nameOf = (key) => (key === UNWANTED ? "not wanted" : shown(key));

// A decision in words: "right", "corrected to dog", "unknown", "not wanted".
export function said(image, decision) {
  if (decision.kind === "unknown") return "unknown";
  if (decision.kind === "unwanted") return "not wanted";
  return decision.label === image.label ? "right" : `corrected to ${shown(decision.label)}`;
}

export const isFiltered = () =>
  filters.show !== "all" || [filters.label, filters.folder, filters.from, filters.to].some((value) => value !== null);

function passes(image) {
  const percent = 100 * image.probability;
  if (filters.show === "undecided" && decisionOf(image)) return false;
  if (filters.show === "decided" && !decisionOf(image)) return false;
  if (filters.show === "changed" && !state.changed.has(image.n)) return false;
  if (filters.folder !== null && image.folder !== filters.folder) return false;
  if (filters.label !== null && keyOf(image) !== filters.label) return false;
  return (filters.from === null || percent >= filters.from) && (filters.to === null || percent <= filters.to);
}

const rank = (key) => [UNKNOWN, UNWANTED].indexOf(key); // −1 for a label
const byGroup = (a, b) => rank(a) - rank(b) || compare(a, b) || (a < b ? -1 : 1);
const byDoubt = (a, b) => Boolean(decisionOf(a)) - Boolean(decisionOf(b)) || a.probability - b.probability || a.n - b.n;

// Put the images that pass the filters in order: by label; in it the undecided first, of these the doubtful first.
export function arrange() {
  const found = new Map();
  for (const image of state.images) {
    image.position = -1;
    if (!passes(image)) continue;
    const key = keyOf(image);
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(image);
  }
  state.shown = [];
  state.groups = [...found.keys()].sort(byGroup).map((key) => {
    const from = state.shown.length;
    for (const image of found.get(key).sort(byDoubt)) image.position = state.shown.push(image) - 1;
    return { key, name: nameOf(key), from, to: state.shown.length };
  });
}

export const groupOf = (position) => state.groups.find(({ from, to }) => from <= position && position < to);

// The next undecided image after a position, or from the beginning; −1 if all that are shown are decided.
export function nextUndecided(position) {
  const open = (image) => !decisionOf(image);
  const after = state.shown.findIndex((image, at) => at > position && open(image));
  return after >= 0 ? after : state.shown.findIndex(open);
}

// How many images each label and each folder has, and how many decisions the server has confirmed.
export function counts() {
  const labels = new Map(state.run.labels.map((label) => [label, 0]));
  const folders = new Map();
  let decided = 0;
  let corrections = 0;
  for (const image of state.images) {
    const key = keyOf(image);
    labels.set(key, (labels.get(key) ?? 0) + 1);
    folders.set(image.folder, (folders.get(image.folder) ?? 0) + 1);
    if (image.decision) decided++;
    if (["right", "label"].includes(image.decision?.kind)) corrections++;
  }
  const sorted = (map, order) => [...map].sort(([a], [b]) => order(a, b));
  return { labels: sorted(labels, byGroup), folders: sorted(folders, compare), decided, corrections };
}

// All labels that may be given: those of the run and those that were added by hand.
export function allLabels() {
  const added = state.images.map(decisionOf).filter((decision) => decision?.kind === "label");
  return [...new Set([...state.run.labels, ...added.map(({ label }) => label)])];
}

// Take what the server has, into the images that are there already: the active one and the selected stay what they are.
export function takeImages(images) {
  const before = state.images;
  state.images = images.map((image) => Object.assign(before[image.n] ?? {}, image));
}
