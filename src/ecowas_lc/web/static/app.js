// Scripts of every page: the menu on narrow screens, row selection, confirmations, dialogs.
(() => {
  "use strict";
  const $ = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];

  window.ecowas = {
    csrf: () => $('meta[name="csrf"]').content,
    announce(text) {
      const live = $("#live");
      live.textContent = "";
      requestAnimationFrame(() => { live.textContent = text; });
    },
    async fetchText(url) {
      const reply = await fetch(url, { headers: { "HX-Request": "true" }, credentials: "same-origin" });
      if (!reply.ok) throw new Error(String(reply.status));
      return reply.text();
    },
    // Only for HTML rendered by the server, which has escaped all values.
    fragment(html) {
      return new DOMParser().parseFromString(html, "text/html").body;
    },
  };

  // The menu
  document.addEventListener("click", (event) => {
    const opener = event.target.closest(".opener");
    const menu = $(".menu");
    if (opener) {
      const open = menu.classList.toggle("open");
      opener.setAttribute("aria-expanded", String(open));
    } else if (menu?.classList.contains("open") && !event.target.closest(".menu")) {
      closeMenu();
    }
  });
  function closeMenu() {
    $(".menu")?.classList.remove("open");
    $(".opener")?.setAttribute("aria-expanded", "false");
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && $(".menu.open")) {
      closeMenu();
      $(".opener").focus();
    }
  });

  // Sections that a button shows or hides
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-opens]");
    if (!opener) return;
    const part = document.getElementById(opener.dataset.opens);
    const show = part.hidden;
    for (const other of all("[data-opens]", opener.parentElement)) {
      const their = document.getElementById(other.dataset.opens);
      their.hidden = other !== opener || !show;
      other.setAttribute("aria-expanded", String(!their.hidden));
    }
    if (show) $("textarea, input:not([type=hidden])", part)?.focus();
  });

  // Row selection
  function counted() {
    const bar = $("[data-bulk]");
    if (!bar) return;
    const rows = all('#bulk input[name="session"]');
    const chosen = rows.filter((row) => row.checked).length;
    bar.hidden = chosen === 0;
    const told = $("[data-selected]", bar);
    told.textContent = chosen === 1 ? told.dataset.one : told.dataset.other.replace("2", String(chosen));
    const every = $("[data-select-all]");
    if (every) {
      every.checked = chosen > 0 && chosen === rows.length;
      every.indeterminate = chosen > 0 && chosen < rows.length;
    }
  }
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-select-all]")) {
      for (const row of all('#bulk input[name="session"]')) row.checked = event.target.checked;
    }
    counted();
  });
  document.addEventListener("htmx:afterSettle", counted);
  window.addEventListener("pageshow", counted);

  // Steps of a timeline open next to it
  document.addEventListener("click", (event) => {
    const step = event.target.closest("a.step");
    if (!step) return;
    for (const other of all('a.step[aria-current="true"]')) other.removeAttribute("aria-current");
    step.setAttribute("aria-current", "true");
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target?.id === "detail" && matchMedia("(max-width: 62rem)").matches) $("#detail").focus();
  });

  // Cited passages
  document.addEventListener("click", async (event) => {
    const opener = event.target.closest("[data-source]");
    if (!opener) return;
    event.preventDefault();
    const dialog = $("#dialog");
    const body = $("#dialog-body");
    const answer = await window.ecowas.fetchText(opener.dataset.source).catch(() => null);
    if (answer === null) {
      window.location.reload();
      return;
    }
    body.replaceChildren(...window.ecowas.fragment(answer).childNodes);
    dialog.showModal();
    $("mark", body)?.scrollIntoView({ block: "center" });
  });
  document.addEventListener("click", (event) => {
    if (event.target.id === "dialog") event.target.close(); // a click on the backdrop
  });
})();
