// What may be done from here, where the server allows it, and the question before it is done.

import { askAll } from "./asking.js";
import { button, el, say } from "./dom.js";
import { ask } from "./live.js";

let token = null;

export async function learn() {
  const told = await ask("actions");
  token = told?.actions ? told.token : null;
  return allowed();
}

export function allowed() {
  return token !== null;
}

// The server's answer, or {error}. A token of a process that is gone is asked for anew, once. Then the page looks again.
export async function act(what, body) {
  let answer = await post(what, body);
  if (answer.status === 403 && (await learn())) answer = await post(what, body);
  askAll();
  return answer.told;
}

async function post(what, body) {
  const headers = { "Content-Type": "application/json", "X-Pgflow-Token": token };
  try {
    const answer = await fetch(`actions/${what}`, { method: "POST", headers, body: JSON.stringify(body), signal: AbortSignal.timeout(20000) });
    const told = await answer.json().catch(() => ({}));
    return { status: answer.status, told: answer.ok ? told : { error: told.error ?? `the server refused it (${answer.status})` } };
  } catch {
    return { status: 0, told: { error: "the server has not answered: look whether it was done before you try again" } };
  }
}

// Whether a person says yes. Escape is no, and the focus goes back to where it was.
export function confirmed(question, consequence, yes) {
  const title = el("h2", { id: "question" });
  const text = el("p");
  say(title, question);
  say(text, consequence);
  const dialog = el("dialog", { class: "question", "aria-labelledby": "question" }, title, text);
  return new Promise((resolve) => {
    const no = button("Leave it as it is", () => dialog.close(), { autofocus: "" });
    dialog.append(el("div", { class: "buttons" }, no, button(yes, () => dialog.close("yes"), { class: "button strong" })));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
