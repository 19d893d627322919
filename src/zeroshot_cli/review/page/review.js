// The page of `zeroshot review`: decisions, keys, filters, and what is said about them.
import { Ended, Refused, ask, inTurn, waiting } from "./api.js";
import * as dialogs from "./dialogs.js";
import * as grid from "./grid.js";
import { arrange, counts, decisionOf, filters, isFiltered, nameOf, nextUndecided, said, state, takeImages } from "./state.js";
import { $, button, element, fileOf, numberIn, percent, plural, quoted, shown, whole } from "./text.js";
import * as training from "./training.js";

const PING = 5000; // milliseconds between two looks whether the server is there

// What is said: decisions politely, failures as an alert

const say = (text) => ($("status").textContent = text);

function alertOf(...content) {
  $("alert").replaceChildren(...content);
  if (!content.length) return;
  $("alert").append(button("Close", () => $("alert").replaceChildren()));
}

function fail(error, what) {
  if (error instanceof Ended) return ended(what);
  if (!(error instanceof Refused)) throw error;
  alertOf(element("p", "", `${what} ${shown(error.message)}`));
}

let lost = 0; // decisions that the server did not get

function ended(what = "") {
  state.ended = true;
  const text = element("p", "", `The server of this page has ended. ${what} What was saved before is kept. To go on, type `);
  text.append(element("code", "", `zeroshot review ${quoted(state.run?.name ?? "RESULTS")}`), " and use the page that it opens.");
  alertOf(text);
}

// Decisions

function decide(kind, label) {
  const images = grid.targets();
  if (!images.length) return;
  if (state.ended) return ended("Nothing was saved.");
  const decisions = images.map((image) => ({ kind, label: kind === "right" ? image.label : label ?? "" }));
  images.forEach((image, place) => (image.pending = decisions[place]));
  save(images, decisions, kind, label);
  grid.repaint(images);
  goOn(images.at(-1).position);
}

async function save(images, decisions, kind, label) {
  const body = { images: images.map(({ n }) => n), kind };
  if (kind === "label") body.label = label;
  if (kind === "right") body.seen = decisions.map((decision) => decision.label); // training may have changed it
  const settle = (place) => {
    if (images[place].pending === decisions[place]) images[place].pending = undefined;
  };
  try {
    const answer = await inTurn("api/decisions", body);
    images.forEach((_, place) => settle(place));
    take(answer.images);
    say(images.length === 1 ? `Saved: ${fileOf(images[0].path)} ${said(images[0], decisions[0])}.` : `Saved: ${plural(images.length, "image")} ${kind === "right" ? "right" : said(images[0], decisions[0])}.`);
  } catch (error) {
    images.forEach((_, place) => settle(place));
    lost += images.length;
    fail(error, `${plural(state.ended ? lost : images.length, "decision")} ${(state.ended ? lost : images.length) === 1 ? "was" : "were"} not saved.`);
  }
  grid.repaint(images);
  described();
  tellSoon();
}

async function undo() {
  if (state.ended) return ended("Nothing was undone.");
  try {
    const { images } = await inTurn("api/undo", {});
    if (!images.length) return say("There is nothing to undo.");
    const undone = take(images);
    grid.repaint(undone);
    const first = undone.find((image) => image.position >= 0);
    if (first) grid.moveTo(first.position);
    const { decision } = undone[0];
    say(undone.length === 1 ? `Undone: ${fileOf(undone[0].path)} is ${decision ? said(undone[0], decision) : "undecided"} again.` : `Undone: ${plural(undone.length, "image")}.`);
    described();
    tellSoon();
  } catch (error) {
    fail(error, "Nothing was undone.");
  }
}

// Put confirmed decisions into the images, and return these.
function take(confirmed) {
  return confirmed.map(({ n, decision }) => {
    state.images[n].decision = decision;
    return state.images[n];
  });
}

function goOn(position) {
  const next = nextUndecided(position);
  if (next >= 0) return grid.moveTo(next);
  grid.clearSelection();
  say("All images shown are decided.");
}

// The line and the buttons below the grid

let describing = false;

// At most once a frame: an arrow key that is held moves more often.
function described() {
  if (describing) return;
  describing = true;
  requestAnimationFrame(() => {
    describing = false;
    describe();
  });
}

function describe() {
  const image = grid.current();
  const several = grid.selected().length;
  const decision = image && decisionOf(image);
  $("current").replaceChildren();
  if (several) $("current").append(element("b", "", `${whole(several)} selected`), " ");
  if (image) {
    const words = decision ? `, ${said(image, decision)}` : "";
    $("current").append(shown(image.path), element("span", "hint", ` ${shown(image.label)} ${percent(image.probability)}${words}`));
  }
  const top = image?.top ?? [];
  $("top").replaceChildren(
    ...top.slice(0, 5).map(([label, probability], place) => {
      const choice = element("button", "button choice");
      choice.type = "button";
      choice.dataset.does = String(place + 1);
      choice.setAttribute("aria-keyshortcuts", place + 1);
      choice.title = shown(label);
      choice.append(element("kbd", "", String(place + 1)), " ", element("span", "name", shown(label)), element("span", "number", percent(probability)));
      return choice;
    }),
  );
  if (dialogs.isOpen("viewer")) dialogs.showOriginal();
}

function otherLabel() {
  const { length } = grid.targets();
  if (length) dialogs.openPicker(length, (label) => decide("label", label));
}

function does(name) {
  const top = grid.current()?.top[Number(name) - 1];
  if (top) return decide("label", top[0]);
  ({
    right: () => decide("right"),
    unknown: () => decide("unknown"),
    unwanted: () => decide("unwanted"),
    other: otherLabel,
    undo,
    open: dialogs.openViewer,
  })[name]?.();
}

// Counts and filters

function tell() {
  const { labels, folders, decided, corrections } = counts();
  const total = state.images.length;
  $("decided").textContent = `${whole(decided)} of ${whole(total)} decided`;
  Object.assign($("progress").firstChild, { max: total || 1, value: decided });
  offer($("by-label"), labels, total, nameOf);
  offer($("by-folder"), folders, total, (folder) => shown(folder) || ".");
  $("folders").hidden = folders.length < 2;
  $("by-state").lastElementChild.hidden = !state.changed.size;
  training.nameButton(corrections);
}

function offer(list, entries, total, name) {
  const wanted = [[null, `all (${whole(total)})`], ...entries.map(([key, n]) => [key, `${name(key)} (${whole(n)})`])];
  wanted.forEach(([key, text], place) => {
    const option = list.options[place] ?? list.appendChild(element("option"));
    if (option.key !== key) option.key = key;
    if (option.textContent !== text) option.textContent = text;
  });
  while (list.options.length > wanted.length) list.lastChild.remove();
  const chosen = filters[list === $("by-label") ? "label" : "folder"];
  list.selectedIndex = Math.max(0, wanted.findIndex(([key]) => key === chosen));
}

let telling;

// After a decision the counts wait for a pause, and the server is asked whether it can train by now.
function tellSoon() {
  clearTimeout(telling);
  telling = setTimeout(async () => {
    await ping();
    tell();
  }, 200);
}

function readFilters() {
  filters.label = $("by-label").selectedOptions[0]?.key ?? null;
  filters.folder = $("by-folder").selectedOptions[0]?.key ?? null;
  filters.from = numberIn($("from"));
  filters.to = numberIn($("to"));
  filters.show = $("by-state").value;
  draw();
}

// Arrange the images anew; the active one stays so if it is still shown, else the first undecided one is.
function draw() {
  arrange();
  grid.layout();
  if (!grid.current() && state.shown.length) grid.moveTo(Math.max(0, nextUndecided(-1)));
  const { length } = state.shown;
  $("count").textContent = isFiltered() ? `${whole(length)} of ${plural(state.images.length, "image")}` : plural(length, "image");
  $("clear").disabled = !isFiltered();
  $("empty").hidden = length > 0;
  $("empty").textContent = state.images.length ? "No image matches these filters." : "This run has no images.";
}

function clearFilters() {
  $("filters").reset();
  readFilters();
  $("grid").focus();
}

function showChanged() {
  $("filters").reset();
  $("by-state").value = "changed";
  readFilters();
  $("grid").focus();
}

// Keys

const MOVES = new Set(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown"]);
const LETTERS = { r: "right", l: "other", "/": "other", u: "unknown", x: "unwanted", z: "undo" };

// The key as its letter or digit, on keyboards of other scripts or with digits on Shift by its place.
function keyOf({ key, code, shiftKey }) {
  const digit = /^Digit([1-5])$/.exec(code);
  if (digit && !shiftKey) return digit[1];
  if (key.length > 1 || key <= "~") return key.length > 1 ? key : key.toLowerCase();
  return /^Key[A-Z]$/.test(code) ? code.at(-1).toLowerCase() : key;
}

function pressed(event) {
  const viewing = dialogs.isOpen("viewer");
  if (event.key === "Escape" && event.target.closest("#filters")) return $("grid").focus();
  if (event.altKey || event.target.closest("input, select, textarea") || dialogs.isOpen("picker") || dialogs.isOpen("keys")) return;
  const key = keyOf(event);
  const control = event.ctrlKey || event.metaKey;
  const onButton = event.target.closest("button, a");
  if (MOVES.has(key)) {
    if (viewing && ($("viewer-frame").contains(event.target) && $("viewer-frame").matches(".actual"))) return;
    event.preventDefault();
    return grid.moveTo(grid.towards(key), { extend: event.shiftKey && !viewing, keep: control });
  }
  if (onButton && (key === " " || key === "Enter")) return;
  const action = control ? withControl(key) : plain(key, viewing);
  if (!action || (event.repeat && key !== "z")) return;
  event.preventDefault();
  action();
}

function withControl(key) {
  if (key === "z") return undo;
  if (key === "a" && !dialogs.isOpen("viewer")) return grid.selectAll;
  if (key === " " && grid.current()) return () => grid.toggle(grid.current());
  return null;
}

function plain(key, viewing) {
  if (/^[1-5]$/.test(key) || LETTERS[key]) return () => does(LETTERS[key] ?? key);
  if (key === " ") return () => does("right");
  if (key === "?") return dialogs.openKeys;
  if (key === "n") return () => goOn(grid.current()?.position ?? -1);
  if (viewing) return { s: dialogs.switchSize, Enter: () => $("viewer").close() }[key];
  return { Enter: dialogs.openViewer, a: grid.selectAll, Escape: grid.clearSelection }[key];
}

function clicked(event) {
  const image = event.target.closest(".card")?.image;
  if (!image) return;
  if (event.ctrlKey || event.metaKey || $("selecting").ariaPressed === "true") return grid.toggle(image);
  grid.moveTo(image.position, { extend: event.shiftKey });
}

// Start

let pinging = null;

// Look whether the server is there; one that is there again is listened to again.
function ping() {
  pinging ??= look().finally(() => (pinging = null));
  return pinging;
}

async function look() {
  try {
    state.run = await ask("api/run");
    if (!state.ended) return;
    state.ended = false;
    lost = 0;
    alertOf();
    await load();
  } catch (error) {
    if (!(error instanceof Ended || error instanceof Refused)) throw error;
    if (!state.ended) ended();
  }
}

async function load() {
  takeImages((await ask("api/images")).images);
  draw();
  tell();
}

function wire() {
  const press = (id, action) => $(id).addEventListener("click", action);
  grid.setUp(described, ping);
  dialogs.setUp({ step: (key) => grid.moveTo(grid.towards(key)), say, fail });
  training.setUp({ trained: load, showChanged, fail });
  document.addEventListener("keydown", pressed);
  $("grid").addEventListener("click", clicked);
  $("grid").addEventListener("dblclick", (event) => event.target.closest(".card") && dialogs.openViewer());
  $("actions").addEventListener("click", (event) => {
    const button = event.target.closest("[data-does]");
    if (!button) return;
    (dialogs.isOpen("viewer") ? $("viewer") : $("grid")).focus();
    does(button.dataset.does);
  });
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("filters").addEventListener("input", readFilters);
  press("clear", clearFilters);
  press("show-keys", dialogs.openKeys);
  press("show-filters", () => $("show-filters").setAttribute("aria-expanded", $("filters").classList.toggle("open")));
  press("selecting", () => {
    $("selecting").ariaPressed = String($("selecting").ariaPressed !== "true");
    $("grid").focus();
  });
  window.addEventListener("beforeunload", (event) => waiting() && !state.ended && event.preventDefault());
  document.addEventListener("visibilitychange", () => document.hidden || ping());
  setInterval(() => document.hidden || ping(), PING);
}

async function begin() {
  state.run = await ask("api/run");
  document.title = `${shown(state.run.name)} · zeroshot review`;
  $("name").textContent = shown(state.run.name);
  wire();
  await load();
  $("grid").focus();
  await training.follow();
  tell();
}

begin().catch((error) => fail(error, ""));
