"use strict";
// The labelling page: one scan, one answer, the next scan.
(() => {
  const NUM_AHEAD = 8, LOW_WATER = 5; // scans at hand, and when to ask for more
  const SETTLE_MS = 200; // nobody reads a scan faster: the second half of a double keypress
  const FLASH_MS = 160;
  const LOOK_AGAIN_MS = 10000;
  const $ = (id) => document.getElementById(id);
  const config = JSON.parse($("config").textContent);
  const { View, Clock, Desk, Marks, Pictures, device, element, fillHelp, inFile } = window.cxr;

  const desk = new Desk(config, () => {
    report();
    if (["done", "waiting"].includes(document.body.dataset.state)) empty();
  }, (reply) => inWords(reply));
  const view = new View($("view"), (changed) => describeView(changed));
  const priorView = new View($("prior"));
  const clock = new Clock();
  const pictures = new Pictures(desk, (id) => tellLate(id));
  let queue = []; // queue[0] is on the screen
  let ready = false, filling = false, unsure = false, again = 0, loading = null, priors = [], priorAt = 0;

  const duration = (seconds) => {
    if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
    return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
  };

  // --- answers -------------------------------------------------------------------------------------------------

  const choices = [
    ...config.findings.map((reply, i) => ({ reply, key: i < (config.independent ? 9 : 10) ? String((i + 1) % 10) : "", box: "findings" })),
    ...(config.independent ? [{ reply: config.none, key: "0", box: "whole" }] : []),
    ...config.remarks.map(({ reply, key }) => ({ reply, key, box: "remarks" })),
  ];
  for (const choice of choices) {
    choice.button = element("button", "", { type: "button", "data-reply": choice.reply });
    if (choice.key) choice.button.append(element("kbd", choice.key.toUpperCase(), { "aria-hidden": "true" }));
    choice.button.append(element("span", choice.reply));
    if (choice.key) choice.button.setAttribute("aria-keyshortcuts", choice.key.toUpperCase());
    choice.button.addEventListener("click", (event) => choose(choice, event.shiftKey));
    $(choice.box).append(choice.button);
  }
  const marks = config.independent ? new Marks(config, choices, (text) => say(text)) : null; // null: one class a scan
  const inWords = (reply) => marks?.said(reply) ?? reply;

  // Of independent findings a press marks one; any other answer speaks of the whole scan.
  function choose(choice, doubtful) {
    if (!ready) return;
    const id = queue[0].image_id;
    if (!marks) answer(choice, choice.reply, doubtful);
    else if (choice.box === "findings") {
      marks.turn(id, choice.reply);
      if (doubtful) setUnsure(true);
    } else if (marks.allows(id, choice.reply)) answer(choice, choice.box === "whole" ? marks.line(id) : choice.reply, doubtful);
  }

  function record(doubtful) {
    const id = queue[0]?.image_id;
    if (ready && marks?.complete(id)) answer({ box: "findings", button: $("record") }, marks.line(id), doubtful);
  }

  function answer(choice, reply, doubtful) {
    const task = queue[0];
    const doubt = doubtful || unsure;
    setReady(false);
    desk.answer(task, reply, doubt ? "unsure" : choice.box === "remarks" ? null : "sure", clock.stop());
    queue.shift();
    marks?.forget(task.image_id);
    setUnsure(false);
    choice.button.classList.add("chosen");
    setTimeout(() => choice.button.classList.remove("chosen"), FLASH_MS);
    const said = `${inWords(reply)}${doubt ? ", unsure" : ""}`;
    $("last").textContent = `Last: ${said}`;
    say(`Recorded ${said}.`);
    show();
    fill();
  }

  async function undo() {
    if (!desk.annotator || $("undo").disabled) return;
    $("undo").disabled = true; // one at a time
    try {
      const task = await desk.undo();
      if (task) {
        queue = [task, ...queue.filter((other) => other.image_id !== task.image_id)];
        if (task.reply) marks?.restore(task.image_id, task.reply);
        $("last").textContent = marks && task.reply ? `Taken back: ${inWords(task.reply)}` : "Taken back";
        say(`${$("last").textContent}.`);
        show();
      } else {
        $("last").textContent = "Nothing to take back";
      }
    } catch (problem) {
      $("last").textContent = problem.message;
    }
    $("undo").disabled = false;
    report();
  }

  function setUnsure(value) {
    unsure = value;
    $("unsure").setAttribute("aria-pressed", value);
  }

  function setReady(value) {
    ready = value;
    document.body.dataset.ready = value;
  }

  // --- scans ---------------------------------------------------------------------------------------------------

  async function show() {
    const task = queue[0];
    setReady(false);
    closePrior();
    setWhy(false);
    marks?.show(queue[0]?.image_id);
    clearTimeout(again);
    report();
    if (!task) return empty();
    pictures.keep(queue.slice(0, NUM_AHEAD));
    loading = task.image_id;
    const slow = setTimeout(() => {
      if (queue[0] !== task) return;
      view.show(null);
      tell("Loading the scan…", [], [], true);
      tellLate(loading);
    }, 150);
    const image = await pictures.of(task);
    clearTimeout(slow);
    if (queue[0] !== task) return;
    loading = null;
    document.body.dataset.scan = task.image_id;
    document.body.dataset.state = "reading";
    if (image) {
      $("message").hidden = true;
      image.alt = `Scan ${task.number}`;
      view.show(image);
    } else {
      view.show(null);
      tell("This scan cannot be shown", ["You can still answer “cannot tell” or “bad quality”."], [], false);
    }
    say(`Scan ${task.number}.`);
    requestAnimationFrame(() => requestAnimationFrame(() => { // it is on the screen now
      if (queue[0] !== task) return;
      clock.start();
      setTimeout(() => { if (queue[0] === task && document.body.dataset.scan === task.image_id) setReady(true); }, SETTLE_MS);
    }));
  }

  // A picture that does not come, by no fault of its own.
  function tellLate(id) {
    const problem = pictures.problems.get(id);
    if (!problem) return;
    if (loading === id && queue[0]?.image_id === id) {
      view.show(null);
      tell("This scan cannot be loaded just now", [problem, "Trying again by itself."]);
    }
    if (priors[priorAt] === id) $("prior-name").textContent = "This other scan cannot be loaded just now; trying again";
  }

  async function fill() {
    if (filling || queue.length > LOW_WATER || !desk.annotator) return;
    filling = true;
    const who = desk.annotator;
    let empty = false;
    try {
      const tasks = await desk.tasks(NUM_AHEAD, queue.map((task) => task.image_id));
      if (who !== desk.annotator) return;
      if (desk.question.findings.join("\n") !== config.findings.join("\n")) {
        return halt("outdated", "The answers to choose from have changed", "Load the page again to see them. Nothing is lost.", "Load again");
      }
      const known = new Set(queue.map((task) => task.image_id));
      empty = !queue.length;
      queue.push(...tasks.filter((task) => !known.has(task.image_id)));
      pictures.keep(queue.slice(0, NUM_AHEAD));
    } catch (problem) {
      again = setTimeout(fill, 2000);
      if (!queue.length) tell("Waiting for the server", [problem.message, "Your answers are kept; reading goes on by itself."]);
    } finally {
      if (who === desk.annotator) filling = false;
    }
    report();
    if (empty) show();
  }

  // No scan is left on the list: all done, or the others are with somebody else.
  function empty() {
    view.show(null);
    delete document.body.dataset.scan;
    const { done, left, team_done, team_total } = desk.progress();
    document.body.dataset.state = left ? "waiting" : "done";
    if (filling) return tell("Loading…", [], [], true);
    if (left) {
      tell("Nothing for you right now", ["The scans still open are being read by others. New ones appear here by themselves."]);
    } else if (desk.waiting) {
      tell("All answered", ["Some answers still wait on this device. Leave this page open until they are saved."]);
    } else if (inFile) {
      tell("All done", [`You have answered all ${done} scans. Save your answers, and send the file answers.csv back to whoever gave you this folder.`], [saveButton()]);
    } else {
      const others = team_done < team_total ? ` The team has answered ${team_done} of ${team_total}.` : " The whole queue is answered.";
      tell("All done", [`Thank you. You have answered ${done} scan${done === 1 ? "" : "s"}, and all of them are saved.${others}`,
        "You can close this page. Whoever runs the project goes on with cxr-ssl run --resume."]);
    }
    if (!inFile) again = setTimeout(() => queue.length || fill(), LOOK_AGAIN_MS);
  }

  function tell(title, lines = [], actions = [], quiet = false) {
    const before = [$("message-title").textContent, $("message-text").textContent].join();
    if (!$("message").hidden && before === [title, lines.join("")].join()) return;
    $("message").hidden = false;
    $("message").classList.toggle("quiet", quiet);
    $("message-title").textContent = title;
    $("message-text").replaceChildren(...lines.map((line) => element("p", line)));
    $("message-actions").replaceChildren(...actions);
    if (!quiet) say([`${title}.`, ...lines].join(" "));
  }

  // --- what the page says --------------------------------------------------------------------------------------

  function report() {
    const { done, left, team_done, team_total, seconds_per_scan } = desk.progress();
    const total = done + left;
    $("count").textContent = `${done} of ${total}`;
    $("bar").max = Math.max(1, total);
    $("bar").value = done;
    $("pace").textContent = seconds_per_scan && left ? `· ${duration(seconds_per_scan)} a scan, about ${duration(seconds_per_scan * left)} left` : "";
    $("team").textContent = team_total > total ? `Team: ${team_done} of ${team_total}` : "";
    document.title = `${done} of ${total} · ${desk.question.title}`;
    $("title").textContent = desk.question.title;
    const notice = desk.notice();
    if ($("banner-text").textContent !== notice) $("banner-text").textContent = notice;
    $("dismiss").hidden = !desk.canDismiss;
    $("banner").hidden = !notice;
    $("prior-open").hidden = !queue[0]?.num_priors;
    $("why").hidden = !queue[0]?.reason;
    $("undo").hidden = !done;
    for (const { button } of [...choices, { button: $("record") }]) button.disabled = !queue.length;
    if (inFile) {
      $("save").classList.toggle("main", desk.unsaved);
      $("save").textContent = desk.unsaved ? "Save answers" : done ? "Saved as answers.csv" : "Save answers";
      $("save").disabled = !done;
    }
  }

  function say(text) {
    $("say").textContent = text;
  }

  function describeView({ zoom, width, level, inverted }) {
    const parts = [];
    if (width !== 1 || level !== 0.5) parts.push(`window ${Math.round(width * 255)}, level ${Math.round(level * 255)}`);
    if (zoom > 1.005) parts.push(`${zoom.toFixed(1)} ×`);
    if (inverted) parts.push("inverted");
    $("readout").textContent = parts.join(" · ");
    $("invert").setAttribute("aria-pressed", inverted);
  }

  function toggleWhy() {
    const reason = queue[0]?.reason;
    if (!reason) return;
    $("why-text").textContent = reason;
    setWhy($("why-text").hidden);
    if (!$("why-text").hidden) say(reason);
  }

  function setWhy(shown) {
    $("why-text").hidden = !shown;
    $("why").setAttribute("aria-expanded", shown);
  }

  // --- other scans of the patient ------------------------------------------------------------------------------

  async function togglePrior() {
    const task = queue[0];
    if (!$("prior").hidden) return closePrior();
    if (!task?.num_priors) return;
    try {
      priors = await desk.priors(task);
    } catch (problem) {
      $("last").textContent = problem.message;
      return;
    }
    if (queue[0] !== task || !priors.length) return;
    $("stage").classList.add("side");
    $("prior").hidden = false;
    $("prior-open").setAttribute("aria-pressed", true);
    showPrior(0);
  }

  async function showPrior(at) {
    if ($("prior").hidden || !priors.length) return;
    priorAt = (at + priors.length) % priors.length;
    const [id, several] = [priors[priorAt], priors.length > 1];
    $("prior-back").hidden = $("prior-on").hidden = !several;
    $("prior-name").textContent = `Other scan of this patient${several ? `, ${priorAt + 1} of ${priors.length}` : ""}`;
    const image = await pictures.of({ image_id: id });
    if (priors[priorAt] !== id) return;
    if (!image) {
      $("prior-name").textContent = "This other scan cannot be shown";
      return priorView.show(null);
    }
    image.alt = $("prior-name").textContent;
    priorView.show(image);
  }

  function closePrior() {
    priors = [];
    $("prior").hidden = true;
    $("prior-open").setAttribute("aria-pressed", false);
    $("stage").classList.remove("side");
    priorView.show(null);
  }

  // --- keys and buttons ----------------------------------------------------------------------------------------

  const views = () => ($("prior").hidden ? [view] : [view, priorView]);
  const commands = {
    u: () => setUnsure(!unsure), z: undo, backspace: undo, i: () => views().forEach((one) => one.invert()),
    r: () => views().forEach((one) => one.reset()), p: togglePrior, w: toggleWhy, "?": () => $("help").showModal(),
    x: () => { if (ready) marks?.clear(queue[0].image_id); },
    escape: () => { closePrior(); setWhy(false); },
    arrowleft: () => showPrior(priorAt - 1), arrowright: () => showPrior(priorAt + 1),
  };

  // The key as the user means it: digits and letters of whatever keyboard layout.
  function keyOf(event) {
    const digit = /^(?:Digit|Numpad)([0-9])$/.exec(event.code);
    if (digit) return digit[1];
    const letter = /^Key([A-Z])$/.exec(event.code);
    const key = event.key.toLowerCase();
    return letter && !/^[a-z]$/.test(key) && key.length === 1 && key > "\u007f" ? letter[1].toLowerCase() : key;
  }

  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || event.target.closest("input")) return;
    if (event.repeat && event.key === "Enter") event.preventDefault(); // a held Enter presses its button once
    const key = keyOf(event);
    if (event.altKey || event.metaKey || (event.ctrlKey && key !== "z")) return;
    if (key === " " && !event.target.closest("button")) {
      document.body.classList.add("panning");
      view.panning = priorView.panning = true;
      event.preventDefault();
    }
    const choice = choices.find((one) => one.key === key);
    const command = choice ? () => choose(choice, event.shiftKey) : commands[key] ?? onEnter(event, key);
    if (!command) return;
    event.preventDefault();
    if (!event.repeat) command();
  });
  // A button that has the focus keeps its Enter.
  function onEnter(event, key) {
    return marks && key === "enter" && !event.target.closest("button") ? () => record(event.shiftKey) : null;
  }

  document.addEventListener("keyup", (event) => { if (event.key === " ") stopPanning(); });
  window.addEventListener("blur", stopPanning);
  function stopPanning() {
    document.body.classList.remove("panning");
    view.panning = priorView.panning = false;
  }

  const buttons = {
    unsure: "u", undo: "z", invert: "i", reset: "r", "prior-open": "p", why: "w", "help-open": "?", "prior-close": "escape",
    "prior-back": "arrowleft", "prior-on": "arrowright", clear: "x",
  };
  for (const [id, key] of Object.entries(buttons)) $(id).addEventListener("click", () => commands[key]());
  $("record").addEventListener("click", (event) => record(event.shiftKey));
  // After a click the space bar pans again; whoever moves by Tab keeps the place.
  document.addEventListener("click", (event) => {
    if (event.detail && event.target.closest("#rail button, .caption button")) $("stage").focus({ preventScroll: true });
  });

  // --- who reads -----------------------------------------------------------------------------------------------

  const saveButton = () => {
    const button = element("button", "Save answers", { type: "button", class: "main" });
    button.addEventListener("click", () => desk.save());
    return button;
  };

  // Each file asks anew: whoever read another one on this machine need not be the one who reads this.
  const nameKept = inFile ? `annotator|${config.run}|${config.round}` : "annotator";

  async function sitDown(name) {
    await desk.enter(name);
    device.set(nameKept, desk.annotator);
    $("annotator").textContent = desk.annotator;
    await claim();
    queue = [];
    $("last").textContent = "";
    filling = false;
    setReady(false);
    view.show(null);
    tell("Loading…", [], [], true);
    await fill();
  }

  function askName(mistake = "") {
    $("name").value = desk.annotator ?? device.get(nameKept) ?? "";
    $("enter-error").textContent = mistake;
    $("enter-cancel").hidden = !desk.annotator;
    if (!$("enter").open) $("enter").showModal();
    $("name").select();
  }

  // One window at a time has the list: two would show the same scans.
  const claimed = new Set();
  async function claim() {
    const { lock } = desk;
    if (!navigator.locks || claimed.has(lock)) return;
    await new Promise((resolve) => {
      const untilClosed = () => { claimed.add(lock); resolve(); return new Promise(() => {}); };
      navigator.locks.request(lock, { steal: true }, untilClosed).catch((reason) => {
        claimed.delete(lock);
        resolve();
        if (reason.name !== "AbortError" || !desk.annotator || desk.lock !== lock) return;
        // Another window took over.
        halt("aside", "Reading goes on in another window", "One window at a time shows your scans. Nothing is lost.", "Read here");
      });
    });
  }

  // No more answers here; what waits is still sent.
  function halt(state, title, line, label) {
    desk.annotator = null;
    document.body.dataset.state = state;
    queue = [];
    setReady(false);
    report();
    const button = element("button", label, { type: "button", class: "main" });
    button.addEventListener("click", () => location.reload());
    view.show(null);
    tell(title, [line], [button]);
  }

  $("enter-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    $("enter-go").disabled = true;
    try {
      const name = $("name").value;
      if (name.trim() && name !== desk.annotator) await sitDown(name);
      $("enter").close();
      $("stage").focus({ preventScroll: true });
    } catch (problem) {
      $("enter-error").textContent = problem.message;
    }
    $("enter-go").disabled = false;
  });
  $("enter").addEventListener("cancel", (event) => { if (!desk.annotator) event.preventDefault(); });
  $("enter-cancel").addEventListener("click", () => $("enter").close());
  $("dismiss").addEventListener("click", () => desk.dismiss());
  $("change").addEventListener("click", () => askName());
  $("save").addEventListener("click", () => desk.save());
  window.addEventListener("beforeunload", (event) => { if (desk.atRisk) event.preventDefault(); });

  async function start() {
    fillHelp(choices, { priors: !inFile, several: config.independent });
    report();
    $("save").hidden = !inFile;
    $("change").hidden = Boolean(inFile && config.annotator);
    const name = (inFile && config.annotator) || device.get(nameKept);
    if (!name) return askName();
    try {
      await sitDown(name);
    } catch (problem) {
      askName(problem.message);
    }
  }
  start();
})();
