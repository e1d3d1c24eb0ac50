// Pages that change by themselves.
//
// A page with `data-every` on its body is fetched again that many milliseconds after the last time
// was over, and each region marked `data-live` that has changed is put in place of the old one. So
// there is one way to show a thing, on the server, and a page without scripts shows the same.
// Nothing is fetched while the tab is hidden, or once a region says `data-done`.
(() => {
  "use strict";

  const root = document.documentElement;
  const body = document.body;
  const every = Number(body.dataset.every || 0);
  const address = body.dataset.url || location.href;
  const stale = document.getElementById("stale");
  const served = new Map();
  let clockOffset = Date.parse(root.dataset.now) - Date.now();
  let lastAnswer = new Date();
  let failures = 0;
  let timer = 0;
  let isAsking = false;

  const regions = (page) => [...page.querySelectorAll("[data-live][id]")];
  // A form's token is another one each time; it alone is no news, and what is typed must stay.
  const essence = (region) => region.outerHTML.replace(/(name="csrf_token" value=")[^"]*/g, "$1");
  const isDone = () => document.querySelector("[data-done]") !== null;

  function localize(scope) {
    for (const element of scope.querySelectorAll("time[data-local]")) {
      const moment = new Date(element.dateTime);
      const isToday = moment.toDateString() === new Date().toDateString();
      element.title = element.textContent;
      element.textContent = moment.toLocaleString(undefined, {
        dateStyle: isToday ? undefined : "medium",
        timeStyle: "medium",
      });
    }
  }

  function duration(seconds) {
    if (seconds < 90) return `${seconds} s`;
    if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
    return `${Math.round(seconds / 3600)} h`;
  }

  function countDown() {
    const now = Date.now() + clockOffset;
    for (const element of document.querySelectorAll("[data-countdown]")) {
      const seconds = Math.ceil((Date.parse(element.dataset.countdown) - now) / 1000);
      element.textContent = seconds > 0 ? `in ${duration(seconds)}` : "now";
    }
  }

  function swap(page) {
    for (const fresh of regions(page)) {
      const old = document.getElementById(fresh.id);
      if (old === null || served.get(fresh.id) === essence(fresh)) continue;
      served.set(fresh.id, essence(fresh));
      const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
      const next = document.importNode(fresh, true);
      localize(next);
      // A region that is read aloud stays, or its news would not be heard.
      old.replaceChildren(...next.childNodes);
      old.toggleAttribute("data-done", next.hasAttribute("data-done"));
      if (focused) document.getElementById(focused)?.focus();
    }
  }

  function showAge() {
    stale.hidden = failures < 2;
    if (!stale.hidden) {
      stale.textContent = `No answer since ${lastAnswer.toLocaleTimeString()}: what you see is that old.`;
    }
  }

  async function refresh() {
    isAsking = true;
    try {
      const answer = await fetch(address, { headers: { Accept: "text/html" }, cache: "no-store" });
      if (!answer.ok) throw new Error(String(answer.status));
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      clockOffset = Date.parse(page.documentElement.dataset.now) - Date.now();
      swap(page);
      failures = 0;
      lastAnswer = new Date();
    } catch {
      failures += 1;
    }
    isAsking = false;
    showAge();
    countDown();
    schedule();
  }

  function schedule() {
    clearTimeout(timer);
    if (!every || isAsking || document.hidden || isDone()) return;
    timer = setTimeout(refresh, Math.min(every * 2 ** failures, Math.max(every, 10000)));
  }

  for (const region of regions(document)) served.set(region.id, essence(region));
  localize(document);
  countDown();
  setInterval(countDown, 500);
  // Loading the answer to a form again would send the form again; this address only shows it.
  if (body.dataset.url) history.replaceState(null, "", body.dataset.url);
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden && every && !isAsking && !isDone()) refresh();
  });
  schedule();
})();
