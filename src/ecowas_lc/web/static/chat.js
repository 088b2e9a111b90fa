// The conversation: sends questions, shows answers as they are written, and resumes after a lost connection.
(() => {
  "use strict";
  const $ = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const { announce, csrf, fetchText, fragment } = window.ecowas;

  const data = $("#chat-data").dataset;
  const texts = JSON.parse(data.texts);
  const groups = JSON.parse(data.groups);
  const form = $("#ask");
  const field = $("#question");
  const talk = $("#talk");
  const say = (name, gaps = {}) =>
    texts[name].replace(/\{(\w+)\}/g, (whole, key) => (key in gaps ? String(gaps[key]) : whole));
  const nameOf = (id) => groups.find((group) => group.id === id)?.name ?? id;
  const cssOf = (id) => groups.find((group) => group.id === id)?.css ?? "";
  let running = null;
  let isNew = false;

  // --- sending ---

  async function post(url, body) {
    const reply = await fetch(url, {
      method: "POST",
      credentials: "same-origin",
      headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf() },
      body: JSON.stringify(body ?? {}),
    });
    const answer = await reply.json().catch(() => ({}));
    if (!reply.ok) {
      const error = new Error(answer.detail || answer.title || String(reply.status));
      error.status = reply.status;
      throw error;
    }
    return answer;
  }

  function problem(error) {
    $("#talk > .note.bad.sent")?.remove();
    const note = document.createElement("div");
    note.className = "note bad sent";
    note.setAttribute("role", "alert");
    const text = document.createElement("p");
    text.textContent =
      error.status === 409 ? texts.busy : error instanceof TypeError ? texts.offline : say("failed", { why: error.message });
    note.append(text);
    talk.append(note);
    note.scrollIntoView({ block: "nearest" });
  }

  async function ask(question, more = {}) {
    $("#talk > .note.bad.sent")?.remove();
    try {
      const run = await post(data.ask, { session: form.dataset.session, question, ...more });
      if (more.regenerate || more.edit) await refresh();
      else begin(question, run);
      return true;
    } catch (error) {
      problem(error);
      if (error.status === 409) refresh().catch(() => {});
      return false;
    }
  }

  function begin(question, run) {
    const here = new URL(window.location.href);
    if (here.searchParams.get("session") !== form.dataset.session) {
      history.replaceState(null, "", data.page);
      isNew = true;
    }
    $("#welcome")?.remove();
    const turn = $("#turn-template").content.cloneNode(true).firstElementChild;
    $("[data-question]", turn).textContent = question;
    turn.dataset.run = run.id;
    turn.dataset.events = run.events;
    turn.dataset.cancel = run.cancel;
    $("#turn-list").append(turn);
    announce(texts.started);
    listen(turn);
    turn.scrollIntoView({ block: "end" });
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const question = field.value.trim();
    if (!question || running) return;
    field.value = "";
    if (!(await ask(question))) field.value = question;
    field.focus();
  });

  // --- listening ---

  function listen(turn) {
    const answer = $(".answer", turn);
    const parts = $("[data-parts]", turn);
    const status = $("[data-status]", turn);
    const told = $("[data-groups]", turn);
    const source = new EventSource(turn.dataset.events);
    let asked = [];
    let cut = false;
    running = { turn, source };
    busy(true);
    status.textContent = texts.routing;

    const keep = (change) => {
      const follow = talk.scrollHeight - talk.scrollTop - talk.clientHeight < 120;
      change();
      if (follow) talk.scrollTop = talk.scrollHeight;
    };
    const on = (type, act) =>
      source.addEventListener(type, (event) => keep(() => act(JSON.parse(event.data || "{}"))));

    function writing() {
      const names = asked.map(nameOf).join(", ") || nameOf("supervisor");
      return say(asked.length > 1 ? "thinking_other" : "thinking_one", { groups: names });
    }

    // One part for each message that a group or the supervisor is writing.
    function partOf(speaker, message) {
      let part = all("[data-message]", parts).find((one) => one.dataset.message === message);
      if (part) return part;
      part = document.createElement("section");
      part.className = `part ${cssOf(speaker)}`;
      part.dataset.message = message;
      part.dataset.speaker = speaker;
      if (asked.length > 1) {
        const head = document.createElement("h3");
        head.textContent = speaker === "synthesis" ? say("together", { n: asked.length }) : nameOf(speaker);
        part.append(head);
      }
      const text = document.createElement("div");
      text.className = "said live";
      text.dir = "auto";
      part.append(text);
      parts.append(part);
      return part;
    }

    source.addEventListener("open", () => {
      if (cut) status.textContent = texts.reconnected;
      cut = false;
    });
    source.addEventListener("error", (event) => {
      if (event.data !== undefined) { // an error of the run, not of the connection
        turn.dataset.problem = JSON.parse(event.data).detail ?? "";
        return;
      }
      if (source.readyState === EventSource.CLOSED) {
        end(turn).catch(() => {});
        return;
      }
      cut = true;
      status.textContent = texts.interrupted;
    });
    on("route", ({ groups: chosen = [] }) => {
      asked = chosen;
      told.replaceChildren(...(asked.length > 1 ? asked.map((id) => chip(id, true)) : []));
      status.textContent = writing();
      const css = cssOf(asked.length === 1 ? asked[0] : "supervisor");
      if (css) answer.classList.add(css);
    });
    on("token", ({ speaker, message, text }) => {
      $(".said", partOf(speaker, message)).textContent += text;
      if (!cut) status.textContent = writing();
    });
    on("finished", ({ speaker }) => {
      for (const one of all(".chip", told)) if (one.dataset.group === speaker) one.classList.remove("busy");
      for (const one of all("[data-message]", parts)) {
        if (one.dataset.speaker === speaker) $(".said", one).classList.remove("live");
      }
    });
    on("cut", ({ messages = [] }) => {
      for (const one of all("[data-message]", parts)) if (messages.includes(one.dataset.message)) one.remove();
      status.textContent = texts.restarted;
    });
    on("waiting", () => { status.textContent = texts.waits; });
    on("problem", ({ detail }) => { turn.dataset.problem = detail ?? ""; });
    on("done", () => {
      source.close();
      end(turn).catch(() => {});
    });
  }

  function chip(id, isBusy) {
    const item = document.createElement("li");
    item.className = `chip ${cssOf(id)}${isBusy ? " busy" : ""}`;
    item.dataset.group = id;
    const name = document.createElement("span");
    name.textContent = nameOf(id);
    item.append(name);
    return item;
  }

  async function end(turn) {
    if (running?.turn === turn) running = null;
    busy(false);
    $(".answer", turn)?.setAttribute("aria-busy", "false");
    const why = turn.dataset.problem;
    await refresh();
    if (why) problem(new Error(why));
    if (isNew) {
      isNew = false;
      await refreshFrame();
    }
    if (!why) announce(texts.finished);
  }

  function busy(is) {
    $("#stop").hidden = !is;
    $("#send").hidden = is;
    field.setAttribute("aria-disabled", String(is));
  }

  // The server's rendering of the turns replaces the text streamed so far.
  async function refresh(url = data.turns) {
    const page = fragment(await fetchText(url));
    const fresh = $("#turns", page);
    const old = $("#turns");
    if (fresh.dataset.version === old.dataset.version && !$("[data-live]", old)) return;
    const follow = talk.scrollHeight - talk.scrollTop - talk.clientHeight < 160;
    if (turnsOf(fresh).length) $("#welcome")?.remove();
    old.replaceWith(fresh);
    window.htmx?.process(fresh);
    if (follow) talk.scrollTop = talk.scrollHeight;
    resume();
  }
  // After the first question, the conversation has a title, tools and an entry in the menu.
  async function refreshFrame() {
    const reply = await fetch(data.page, { credentials: "same-origin", headers: { Accept: "text/html" } });
    if (!reply.ok) return;
    const page = fragment(await reply.text());
    for (const part of [".chat-head", ".recent"]) {
      const [fresh, old] = [$(part, page), $(part)];
      if (fresh && old) old.replaceWith(fresh);
      else if (fresh) $(".menu nav").after(fresh);
    }
    document.title = `${$(".chat-head h1").textContent} – ${document.title.split(" – ").pop()}`;
  }
  const turnsOf = (from) => all("#turn-list > .turn", from);

  function resume() {
    if (running && document.contains(running.turn)) return;
    running?.source.close();
    running = null;
    const turn = $(".turn[data-run]");
    if (turn) listen(turn);
    else busy(false);
  }

  // The conversation may have changed in another tab.
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible" && !running && turnsOf(document).length) refresh().catch(() => {});
  });

  // --- stop, copy, edit, regenerate ---

  $("#stop").addEventListener("click", async () => {
    if (!running) return;
    try {
      await post(running.turn.dataset.cancel);
      announce(texts.stopped);
      field.focus();
    } catch (error) {
      problem(error);
    }
  });

  async function copied(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button, a");
    if (!button) return;
    const turn = button.closest(".turn");
    if (button.dataset.ask !== undefined) {
      ask(button.dataset.ask);
    } else if (button.dataset.copy !== undefined) {
      await copied($("[data-markdown]", button.closest(".answer")).content.textContent);
      const label = $("span", button);
      label.textContent = texts.copied;
      announce(texts.copied);
      setTimeout(() => { label.textContent = texts.copy; }, 2000);
    } else if (button.dataset.again === "regenerate") {
      ask($("[data-question]", turn).textContent, { regenerate: turn.dataset.questionId });
    } else if (button.dataset.edit !== undefined || button.dataset.editCancel !== undefined) {
      const editor = $(".edit-form", turn);
      const show = editor.hidden;
      editor.hidden = !show;
      $("[data-question]", turn).hidden = show;
      $("[data-edit]", turn).setAttribute("aria-expanded", String(show));
      (show ? $("textarea", editor) : $("[data-edit]", turn)).focus();
    }
  });
  document.addEventListener("keydown", (event) => {
    const editor = event.target.closest(".edit-form");
    if (event.key === "Escape" && editor) $("[data-edit-cancel]", editor).click();
  });
  document.addEventListener("submit", (event) => {
    const editor = event.target.closest(".edit-form");
    if (!editor) return;
    event.preventDefault();
    const question = $("textarea", editor).value.trim();
    if (question) ask(question, { edit: editor.closest(".turn").dataset.questionId });
  });

  // --- the input field: Enter sends, @ chooses a group ---

  const list = $("#mentions");
  let chosen = -1;
  const mention = () => /(^|\s)@([\w-]*)$/.exec(field.value.slice(0, field.selectionStart));

  function offer() {
    const found = mention();
    const typed = found?.[2].toLowerCase() ?? "";
    const fitting = found
      ? groups.filter((group) => group.mention && (group.id.toLowerCase().startsWith(typed) || group.name.toLowerCase().includes(typed)))
      : [];
    list.replaceChildren(
      ...fitting.map((group, place) => {
        const item = document.createElement("li");
        item.id = `mention-${place}`;
        item.setAttribute("role", "option");
        item.dataset.id = group.id;
        const name = document.createElement("b");
        name.textContent = group.name;
        const id = document.createElement("small");
        id.textContent = `@${group.id}`;
        item.append(name, id);
        return item;
      }),
    );
    if (list.hidden && fitting.length) announce(`${texts.groups}: ${fitting.length}`);
    list.hidden = fitting.length === 0;
    choose(fitting.length ? 0 : -1);
  }

  function choose(place) {
    chosen = place;
    const items = all("li", list);
    items.forEach((item, number) => item.setAttribute("aria-selected", String(number === place)));
    if (place >= 0) {
      field.setAttribute("aria-activedescendant", items[place].id);
      items[place].scrollIntoView({ block: "nearest" });
    } else field.removeAttribute("aria-activedescendant");
  }

  function take(id) {
    const found = mention();
    const at = field.selectionStart;
    const start = at - found[2].length;
    field.setRangeText(`${id} `, start, at, "end");
    close();
    field.focus();
  }

  function close() {
    list.hidden = true;
    field.removeAttribute("aria-activedescendant");
    chosen = -1;
  }

  field.addEventListener("input", offer);
  field.addEventListener("blur", () => setTimeout(() => document.activeElement !== field && close(), 150));
  list.addEventListener("mousedown", (event) => {
    event.preventDefault();
    const item = event.target.closest("li");
    if (item) take(item.dataset.id);
  });
  field.addEventListener("keydown", (event) => {
    const items = all("li", list);
    if (!list.hidden && items.length) {
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        choose((chosen + (event.key === "ArrowDown" ? 1 : -1) + items.length) % items.length);
        return;
      }
      if (event.key === "Enter" || event.key === "Tab") {
        event.preventDefault();
        take(items[chosen].dataset.id);
        return;
      }
      if (event.key === "Escape") {
        event.preventDefault();
        close();
        return;
      }
    }
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });

  // --- start ---

  resume();
  talk.scrollTop = talk.scrollHeight;
  if (matchMedia("(min-width: 54rem)").matches) field.focus();
})();
