// The dialogs: the original image, another label with type-ahead, the keys. Each keeps the focus while it is open.
import { ask } from "./api.js";
import { current } from "./grid.js";
import { allLabels, decisionOf, said, state } from "./state.js";
import { $, copied, element, percent, shown, whole } from "./text.js";

const CHOICES = 50; // labels listed at a time

export const isOpen = (name) => $(name).open;

export function setUp({ step, say, fail }) {
  for (const name of ["viewer", "picker", "keys"]) {
    $(name).addEventListener("click", (event) => event.target === $(name) && $(name).close());
    $(name).addEventListener("close", () => ($("viewer").open ? $("viewer") : $("grid")).focus());
  }
  $("viewer").addEventListener("close", () => {
    $("deck").append($("actions"));
    $("viewer-frame").replaceChildren();
  });
  for (const [button, name] of [["close-viewer", "viewer"], ["close-keys", "keys"], ["cancel-pick", "picker"]]) {
    $(button).addEventListener("click", () => $(name).close());
  }
  $("previous").addEventListener("click", () => step("ArrowLeft"));
  $("next").addEventListener("click", () => step("ArrowRight"));
  $("actual").addEventListener("click", switchSize);
  $("copy").addEventListener("click", () => copyPath(say));
  $("open-folder").addEventListener("click", () => openFolder(say, fail));
  $("picked").addEventListener("input", listChoices);
  $("picked").addEventListener("keydown", pressedInPicker);
  $("pick").addEventListener("click", pick);
  $("choices").addEventListener("click", (event) => {
    const choice = event.target.closest("li");
    if (!choice) return;
    mark([...$("choices").children].indexOf(choice));
    pick();
  });
}

// The original

export function openViewer() {
  if (!current()) return;
  $("viewer").append($("actions")); // the same buttons decide here
  showOriginal();
  if (!$("viewer").open) $("viewer").showModal();
  $("viewer").focus();
}

export function showOriginal() {
  const image = current();
  const decision = decisionOf(image);
  $("viewer-title").textContent = `${shown(image.label)} ${percent(image.probability)}${decision ? `, ${said(image, decision)}` : ""}`;
  $("viewer-place").textContent = `${whole(image.position + 1)} of ${whole(state.shown.length)}`;
  $("viewer-path").textContent = shown(image.path);
  $("previous").setAttribute("aria-disabled", image.position === 0);
  $("next").setAttribute("aria-disabled", image.position === state.shown.length - 1);
  if ($("viewer-frame").image === image && $("viewer-frame").firstChild) return;
  const original = element("img");
  original.alt = shown(image.path);
  original.addEventListener("error", () => original.replaceWith("This image cannot be shown."));
  original.src = `image/${image.n}`;
  $("viewer-frame").image = image;
  $("viewer-frame").replaceChildren(original);
}

export function switchSize() {
  $("actual").setAttribute("aria-pressed", $("viewer-frame").classList.toggle("actual"));
}

async function copyPath(say) {
  const text = copied(current().path);
  try {
    await navigator.clipboard.writeText(text);
    say("Copied the path.");
  } catch {
    getSelection().selectAllChildren($("viewer-path"));
    say("The browser does not allow it: the path is selected, copy it from there.");
  }
}

async function openFolder(say, fail) {
  try {
    await ask("api/open-folder", { image: current().n });
    say("Opened the folder.");
  } catch (error) {
    fail(error, "The folder was not opened.");
  }
}

export function openKeys() {
  $("keys").showModal();
}

// Another label

let choices = []; // { label, isNew }
let at = 0;
let confirmed = null; // the new label that was asked about
let onPick = () => {};

export function openPicker(count, picked) {
  onPick = picked;
  $("picker-title").textContent = count === 1 ? "Another label" : `Another label for ${whole(count)} images`;
  $("picked").value = "";
  listChoices();
  $("picker").showModal();
  $("picked").focus();
}

// Labels that begin with what was typed, then those with a word that does, then those that contain it.
function listChoices() {
  const typed = $("picked").value.trim();
  const sought = typed.toLowerCase();
  const rank = (label) => (label.startsWith(sought) ? 0 : label.includes(` ${sought}`) ? 1 : 2);
  const found = allLabels().filter((label) => label.toLowerCase().includes(sought));
  found.sort((a, b) => rank(a.toLowerCase()) - rank(b.toLowerCase()) || (a.toLowerCase() === sought ? -1 : 0));
  choices = found.slice(0, CHOICES).map((label) => ({ label, isNew: false }));
  const begins = found.length > 0 && rank(found[0].toLowerCase()) === 0;
  // Enter takes the first: a label that only contains the text is chosen by hand.
  if (typed && !found.includes(typed)) choices[begins ? "push" : "unshift"]({ label: typed, isNew: true });
  $("choices").replaceChildren(
    ...choices.map(({ label, isNew }, index) => {
      const choice = element("li", isNew ? "new" : "", isNew ? `New label “${shown(label)}”` : shown(label));
      choice.id = `choice-${index}`;
      choice.setAttribute("role", "option");
      return choice;
    }),
  );
  confirmed = null;
  mark(0);
  const left = found.length - CHOICES;
  $("picker-hint").textContent = left > 0 ? `and ${whole(left)} more: type more of the label` : "";
}

function mark(index) {
  at = Math.max(0, Math.min(index, choices.length - 1));
  for (const [place, choice] of [...$("choices").children].entries()) choice.setAttribute("aria-selected", place === at);
  $("choices").children[at]?.scrollIntoView({ block: "nearest" });
  if (choices.length) $("picked").setAttribute("aria-activedescendant", `choice-${at}`);
  else $("picked").removeAttribute("aria-activedescendant");
}

function pick() {
  const choice = choices[at];
  if (!choice) return;
  if (choice.isNew && confirmed !== choice.label) {
    confirmed = choice.label;
    $("picker-hint").textContent = `“${shown(choice.label)}” is not among the labels. Apply once more to add it.`;
    return;
  }
  $("picker").close();
  onPick(choice.label);
}

function pressedInPicker(event) {
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + 8, PageUp: at - 8 }[event.key];
  if (to === undefined && event.key !== "Enter") return;
  event.preventDefault();
  if (event.key === "Enter") pick();
  else mark(to);
}
