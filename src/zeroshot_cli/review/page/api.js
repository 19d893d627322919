// Requests to the server of this page. All addresses are relative, since the page's own holds the token.

export class Ended extends Error {} // no answer: the server is gone
export class Refused extends Error {} // an answer that is an error, with its sentence

export async function ask(path, body) {
  const post = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response, text;
  try {
    response = await fetch(path, { cache: "no-store", ...(body === undefined ? {} : post) });
    text = await response.text();
  } catch {
    throw new Ended();
  }
  let content = null;
  try {
    content = JSON.parse(text);
  } catch {
    // not JSON, such as the page of a proxy
  }
  if (!response.ok) throw new Refused(content?.error ?? `The server answered ${response.status}.`);
  return content;
}

// Writes are sent one after the other, so that an undo never overtakes the decision that it is for.
let last = Promise.resolve();
let unsent = 0;

export const waiting = () => unsent;

export function inTurn(path, body) {
  unsent++;
  const answer = last.then(() => ask(path, body));
  last = answer.then(() => unsent--, () => unsent--);
  return answer;
}
