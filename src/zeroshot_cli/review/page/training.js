// "Train": the server makes a classifier from the corrections and answers again; this shows what changed.
import { ask, inTurn } from "./api.js";
import { state } from "./state.js";
import { $, percent, plural, quoted, shown, whole } from "./text.js";

const POLL = 250; // milliseconds

let onTrained = () => {};
let running = false;

export function setUp({ trained, showChanged, fail }) {
  onTrained = trained;
  $("train").addEventListener("click", () => start(fail));
  $("close-training").addEventListener("click", () => {
    $("training").hidden = true;
    $("grid").focus();
  });
  $("show-changed").addEventListener("click", showChanged);
}

// The button says from how many corrections it trains, or when pressed why it cannot.
export function nameButton(corrections) {
  $("train").textContent = `Train from ${plural(corrections, "correction")}`;
  $("train").setAttribute("aria-disabled", running || !state.run.can_train);
  $("train").title = state.run.can_train ? "" : shown(state.run.why_not);
}

async function start(fail) {
  if (running) return;
  if (!state.run.can_train) return show(shown(state.run.why_not));
  $("grid").focus();
  try {
    await inTurn("api/train", {}); // after the decisions that it learns from
    await follow({ asked: true });
  } catch (error) {
    running = false;
    $("training").hidden = true;
    fail(error, "The training was not started.");
  }
}

// Also on loading the page, unasked: a training may be under way, or done.
export async function follow({ asked = false } = {}) {
  let report = await ask("api/train");
  while (report.state === "running") {
    running = true;
    $("train").setAttribute("aria-disabled", "true");
    show(report.message ? shown(report.message) : "Training…", { busy: true });
    await new Promise((resume) => setTimeout(resume, POLL));
    report = await ask("api/train");
  }
  const news = asked || running;
  running = false;
  $("train").setAttribute("aria-disabled", !state.run.can_train);
  if (report.state === "failed" && news) show(`Not trained: ${shown(report.message)}`);
  if (report.state !== "done") return;
  state.changed = new Map(report.changed.map((change) => [change.n, change]));
  if (news) await onTrained();
  showResult(report);
}

function show(text, { busy = false } = {}) {
  $("training").hidden = false;
  $("training-bar").hidden = !busy;
  $("close-training").hidden = busy;
  $("show-changed").hidden = $("classifier").hidden = true;
  if ($("training-said").textContent !== text) $("training-said").textContent = text;
}

function showResult({ zero_shot: before, tuned: after, examples, changed, classifier }) {
  const unknown = before === null || after === null;
  const accuracy = unknown ? " Too few to measure the accuracy." : ` Accuracy: ${percent(before)} zero-shot → ${percent(after)} tuned, cross-validated.`;
  const moved = changed.length ? `${plural(changed.length, "answer")} of ${whole(state.images.length)} changed.` : "No answer changed.";
  const { background } = state.run;
  const without = background ? " The background of the run is left out here, so no answer is unknown; the command below has it." : "";
  show(`Trained from ${plural(examples, "correction")}.${accuracy} ${moved}${without}`);
  $("show-changed").hidden = !changed.length;
  $("show-changed").textContent = `Show ${changed.length === 1 ? "the one" : `the ${whole(changed.length)}`} that changed`;
  $("classifier").hidden = !classifier;
  $("classifier").textContent = classifier ? `zeroshot classify FOLDER --classifier ${quoted(classifier)}${background ? ` --background ${background}` : ""}` : "";
}
