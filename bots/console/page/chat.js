// The chat page. The server speaks JSON and server-sent events; every text goes in as text, never as markup. A tab keeps
// its conversation until it is closed, so that a reload goes on where it was; a sensitive question is not kept.

const $ = (selector, from = document) => from.querySelector(selector);
const turns = $("#turns");
const box = $("#question");
const send = $("#send");
const live = $("#live");
const kept = JSON.parse(sessionStorage.getItem("conversation") ?? "null") ?? { thread: random(2), turns: [] };
let contact = { name: "HR", detail: "" };

function random(words) {
  return crypto.getRandomValues(new Uint32Array(words)).join("");
}

function keep() {
  sessionStorage.setItem("conversation", JSON.stringify(kept));
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

function waiting(position) {
  if (position <= 0) return "Looking in the HR documents";
  return position === 1 ? "One question is ahead of yours" : `${position} questions are ahead of yours`;
}

function passage(source, numbered) {
  const item = element("li");
  const fold = element("details");
  const label = `${numbered ? `[${source.number}] ` : ""}${source.heading}`;
  fold.append(element("summary", "", label));
  fold.append(element("p", "", source.passage));
  const effective = source.effective ? `, effective ${source.effective}` : "";
  fold.append(element("span", "meta", `${source.document}, version ${source.version}${effective}`));
  item.append(fold);
  return item;
}

async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body ?? {}),
  });
  const isJson = (response.headers.get("Content-Type") ?? "").startsWith("application/json");
  const answer = isJson ? await response.json() : { error: await response.text() };
  if (!response.ok) throw new Error(answer.error || "The server did not accept this. Please try again.");
  return answer;
}

function atBottom() {
  return window.innerHeight + window.scrollY > document.body.scrollHeight - 160;
}

function follow(change) {
  const stay = atBottom();
  change();
  if (stay) window.scrollTo({ top: document.body.scrollHeight });
}

class Turn {
  constructor(question) {
    this.node = $("#turn").content.firstElementChild.cloneNode(true);
    $(".asked", this.node).textContent = question;
    this.answer = $(".answer", this.node);
    this.status = $(".status", this.node);
    this.text = $(".text", this.node);
    this.status.textContent = waiting(0);
    $(".stop", this.node).addEventListener("click", () => this.stop());
    $(".up", this.node).addEventListener("click", () => this.rate(1));
    $(".down", this.node).addEventListener("click", () => this.rate(-1));
    $(".human", this.node).addEventListener("click", () => this.human());
    turns.append(this.node);
    this.node.scrollIntoView({ block: "end" });
  }

  listen(id) {
    this.id = id;
    return new Promise((resolve) => {
      let written = "";
      const source = new EventSource(`api/answers/${id}`);
      source.onmessage = ({ data }) => follow(() => {
        const event = JSON.parse(data);
        if (event.type === "queued") this.status.textContent = waiting(event.position);
        else if (event.type === "status") this.status.textContent = event.text;
        else if (event.type === "started") written = "";
        else if (event.type === "delta") {
          written += event.text;
          this.status.textContent = "";
          if (written.length > this.text.textContent.length) this.text.textContent = written;
        } else if (event.type === "final" || event.type === "error") {
          source.close();
          this.end(event);
          resolve();
        }
      });
      source.onerror = () => {
        if (source.readyState === EventSource.CLOSED) {
          this.end({ type: "error", text: "The connection was lost. Please ask again." });
          resolve();
        } else if (!this.text.textContent) this.status.textContent = "Connecting again";
      };
    });
  }

  end(event) {
    this.status.textContent = "";
    this.text.textContent = event.text || "Stopped.";
    for (const source of event.sources ?? []) $(".sources", this.node).append(passage(source, true));
    const closest = $(".closest", this.node);
    for (const source of event.closest ?? []) $("ol", closest).append(passage(source, false));
    closest.hidden = !(event.closest ?? []).length;
    closest.open = event.verdict === "abstained";
    $(".stop", this.node).hidden = true;
    $(".actions", this.node).hidden = event.type !== "final" || event.verdict === "smalltalk";
    this.answer.setAttribute("aria-busy", "false");
    live.textContent = this.text.textContent;
    if (event.verdict === "sensitive") {
      kept.turns = kept.turns.filter(({ id }) => id !== this.id);
      keep();
    }
  }

  fail(error) {
    this.end({ type: "error", text: error.message });
  }

  async stop() {
    if (this.id) await post(`api/answers/${this.id}/stop`).catch(() => {});
  }

  async rate(rating) {
    const thanks = $(".thanks", this.node);
    try {
      thanks.textContent = (await post(`api/answers/${this.id}/feedback`, { rating })).text;
      $(".up", this.node).setAttribute("aria-pressed", String(rating > 0));
      $(".down", this.node).setAttribute("aria-pressed", String(rating < 0));
    } catch (error) {
      thanks.textContent = error.message;
    }
  }

  human() {
    const detail = contact.detail ? ` (${contact.detail})` : "";
    $(".thanks", this.node).textContent = `Please contact ${contact.name}${detail}.`;
  }
}

async function ask(question) {
  const text = question.trim();
  if (!text) {
    live.textContent = "Type a question first.";
    box.focus();
    return;
  }
  $("#prompts").hidden = true;
  const turn = new Turn(text);
  box.value = "";
  grow();
  send.disabled = true;
  try {
    const { id } = await post("api/questions", { text, thread: kept.thread, event: random(3) });
    kept.turns.push({ id, text });
    keep();
    await turn.listen(id);
  } catch (error) {
    turn.fail(error);
  } finally {
    send.disabled = false;
    box.focus();
  }
}

function grow() {
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight + 2}px`;
}

$("#ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!send.disabled) ask(box.value);
});
box.addEventListener("input", grow);
box.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("#ask").requestSubmit();
  }
});

async function start() {
  const response = await fetch("api/start");
  if (!response.ok) throw new Error(await response.text());
  const first = await response.json();
  contact = first.contact;
  $("#notice").textContent = first.notice;
  turns.before(element("p", "welcome", first.welcome));
  for (const prompt of first.prompts) {
    const item = element("li");
    const button = element("button", "", prompt);
    button.type = "button";
    button.addEventListener("click", () => ask(prompt));
    item.append(button);
    $("#prompts").append(item);
  }
  if (location.search) history.replaceState(null, "", location.pathname);
  $("#prompts").hidden = kept.turns.length > 0;
  for (const { id, text } of [...kept.turns]) new Turn(text).listen(id);
  box.focus();
}

start().catch((error) => turns.before(element("p", "welcome", error.message)));
