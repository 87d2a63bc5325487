// Draws the status page: asks for the pool's state every two seconds while somebody looks.
// Whatever comes from the server goes in as text, never as markup.

const POLL_MS = 2000;
const PATIENCE_MS = 5000;
const TRACE_POINTS = 60;
const MOST_UNUSED_KEYS = 10;

const byId = (id) => document.getElementById(id);
const board = byId("board");
const login = byId("login");
const traces = { items: [], served: [] };
let timer = 0;
let isAsking = false;
let drawnAt = 0;

// --- words and figures

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 0 });
const cents = new Intl.NumberFormat("en", { style: "currency", currency: "USD" });
const fractions = new Intl.NumberFormat("en", {
  style: "currency", currency: "USD", maximumSignificantDigits: 2,
});

const dollars = (usd) => (usd > 0 && usd < 1 ? fractions : cents).format(usd);
const plural = (n, one, many = `${one}s`) => (n === 1 ? one : many);
const count = (n, one, many) => `${whole.format(n)} ${plural(n, one, many)}`;

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let step = 0;
  while (n >= 1024 && step < units.length - 1) {
    n /= 1024;
    step += 1;
  }
  return `${tenths.format(n)} ${units[step]}`;
}

function duration(s) {
  if (s < 1) return `${whole.format(s * 1000)} ms`;
  if (s < 10) return `${tenths.format(s)} s`;
  if (s < 120) return `${whole.format(s)} s`;
  if (s < 7200) return `${whole.format(s / 60)} min`;
  return `${whole.format(s / 3600)} h`;
}

const ago = (thenMs, nowMs) => `${duration(Math.max(0, nowMs - thenMs) / 1000)} ago`;

// --- elements

function element(tag, { text = "", className = "", mood = "" } = {}, ...children) {
  const made = document.createElement(tag);
  if (text !== "") made.textContent = text;
  if (className) made.className = className;
  if (mood) made.dataset.mood = mood;
  made.append(...children);
  return made;
}

const mood = (text, kind) => element("span", { text, className: "mood", mood: kind });

function svg(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function bar(share, label) {
  const made = svg("svg", {
    class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img",
    "aria-label": label,
  });
  const width = Math.min(100, Math.max(0, 100 * share));
  made.append(svg("rect", { class: "all", width: 100, height: 10 }),
    svg("rect", { class: "part", width, height: 10 }));
  return made;
}

function trace(values, label) {
  const highest = Math.max(1, ...values);
  const first = TRACE_POINTS - values.length;
  const points = values.map((value, at) => `${first + at},${19 - (18 * value) / highest}`);
  const made = svg("svg", {
    class: "trace", viewBox: `0 0 ${TRACE_POINTS - 1} 20`, preserveAspectRatio: "none",
    role: "img", "aria-label": label,
  });
  made.append(svg("polyline", { points: points.join(" ") }));
  return made;
}

// A table is drawn anew only when what it shows has changed, so that a selection in it stays.
function table(id, columns, rows, nothing) {
  const target = byId(id);
  const cells = rows.map((row) => columns.map((column) => column.of(row)));
  const fingerprint = cells.flat().map((cell) => cell.outerHTML ?? cell).join("\u0000") + nothing;
  if (target.fingerprint === fingerprint) return;
  target.fingerprint = fingerprint;
  if (rows.length === 0) {
    target.replaceChildren(element("tbody", {},
      element("tr", {}, element("td", { text: nothing, className: "nothing" }))));
    return;
  }
  const head = element("tr", {}, ...columns.map((column) => {
    const title = element("th", { text: column.title, className: column.kind ?? "" });
    title.scope = "col";
    return title;
  }));
  const lines = cells.map((line) => element("tr", {}, ...line.map((cell, at) => {
    const made = element("td", { className: columns[at].kind ?? "" });
    made.dataset.label = columns[at].title;
    made.append(cell);
    return made;
  })));
  target.replaceChildren(element("thead", {}, head), element("tbody", {}, ...lines));
}

function tile(name, figure, unit, beneath, ...more) {
  const value = element("div", { className: "figure" },
    figure, " ", element("small", { text: unit }));
  return element("div", {}, element("dt", { text: name }),
    element("dd", {}, value, element("div", { text: beneath, className: "beneath" }), ...more));
}

// --- what is shown

const sum = (rows, field) => rows.reduce((total, row) => total + row[field], 0);

function remember(values, value) {
  values.push(value);
  if (values.length > TRACE_POINTS) values.shift();
}

function drawTiles(pool) {
  const waiting = sum(pool.lanes, "items");
  const served = sum(pool.lanes, "served_per_s");
  remember(traces.items, waiting);
  remember(traces.served, served);
  const batches = sum(pool.lanes, "batches");
  const weighed = (field) =>
    pool.lanes.reduce((total, lane) => total + lane.batches * (lane[field] ?? 0), 0) / batches;
  const oldest = Math.max(0, ...pool.lanes.map((lane) => lane.oldest_s));
  const usable = pool.keys.filter((key) => key.condition === "ready").length;
  const perBatch = batches ? weighed("requests_per_batch") : 0;
  byId("tiles").replaceChildren(
    tile("Waiting", short.format(waiting), plural(waiting, "item"),
      `${bytes(sum(pool.lanes, "bytes"))}${oldest ? `, oldest ${duration(oldest)}` : ""}`,
      trace(traces.items, "Items waiting in the last two minutes")),
    tile("Answered", short.format(served), "items/s", `${count(pool.models, "model")} served`,
      trace(traces.served, "Items answered a second in the last two minutes")),
    tile("Batch", batches ? tenths.format(weighed("items_per_batch")) : "–", "items",
      batches ? `of ${tenths.format(perBatch)} ${plural(perBatch, "request")}` : "none lately"),
    tile("Keys", pool.keys.length ? `${usable} of ${pool.keys.length}` : "–",
      pool.keys.length ? "usable" : "", pool.keys.length
        ? `${count(sum(pool.keys, "in_flight"), "call")} in flight` : "none needed"),
    tile("Workers", whole.format(pool.workers.length), "alive",
      count(pool.apis.length, "api process", "api processes")),
    tile("Spent lately", pool.spending.usd > 0 && pool.spending.usd < 0.01 ? "< $0.01"
      : cents.format(pool.spending.usd), "", `for ${count(pool.spending.requests, "request")}`),
  );
}

function batchOf(lane) {
  if (!lane.batches) return "–";
  const words = `${tenths.format(lane.items_per_batch)} ${plural(lane.items_per_batch, "item")}`;
  if (lane.fill_ratio === null) return words;
  const full = `${percent.format(lane.fill_ratio)} full`;
  return element("span", { text: words }, bar(lane.fill_ratio, full));
}

function drawLanes(pool) {
  table("lanes", [
    { title: "Model", kind: "name", of: (lane) => lane.name },
    { title: "Waiting", kind: "number", of: (lane) => count(lane.items, "item") },
    { title: "Size", kind: "number", of: (lane) => bytes(lane.bytes) },
    { title: "Packs leased", kind: "number",
      of: (lane) => `${whole.format(lane.packs_leased)} of ${whole.format(lane.packs)}` },
    { title: "Oldest", kind: "number", of: (lane) => (lane.oldest_s ? duration(lane.oldest_s) : "–") },
    { title: "Answered", kind: "number", of: (lane) => `${whole.format(lane.served_per_s)}/s` },
    { title: "Batch", kind: "number", of: batchOf },
    { title: "Requests per batch", kind: "number",
      of: (lane) => (lane.batches ? tenths.format(lane.requests_per_batch) : "–") },
    { title: "Dead letters", kind: "number", of: (lane) => (lane.dead_letters
      ? mood(whole.format(lane.dead_letters), "bad") : "0") },
  ], pool.lanes, "No model was asked for yet.");
}

const MOODS = { ready: "good", cooling: "warn", open: "warn", retired: "bad" };

function conditionOf(key) {
  if (key.condition === "ready") return mood("ready", "good");
  const why = key.reason ? `, ${key.reason.replaceAll("_", " ")}` : "";
  return mood(`${key.condition} for ${duration(key.rests_for_s)}${why}`, MOODS[key.condition]);
}

function leftOf(remaining, limit) {
  if (limit === null) return element("span", { text: "no limit", className: "faint" });
  const words = `${short.format(remaining)} of ${short.format(limit)}`;
  return element("span", { text: words }, bar(limit ? remaining / limit : 0, `${words} left`));
}

function drawKeys(pool) {
  const used = pool.keys.filter((key) => key.provider !== null);
  const unused = pool.keys.length - used.length;
  const shown = unused > MOST_UNUSED_KEYS ? used : pool.keys;
  byId("unused-keys").textContent = shown === pool.keys ? ""
    : `${count(unused, "key was", "keys were")} not used lately.`;
  table("keys", [
    { title: "Key", kind: "name", of: (key) => key.id },
    { title: "Provider", of: (key) => key.provider ?? element("span", {
      text: "not used lately", className: "faint" }) },
    { title: "Secret", of: (key) => key.key ?? "–" },
    { title: "Condition", of: conditionOf },
    { title: "In flight", kind: "number", of: (key) => (key.slots === null
      ? whole.format(key.in_flight)
      : `${whole.format(key.in_flight)} of ${whole.format(key.slots)}`) },
    { title: "Requests left", kind: "number", of: (key) => leftOf(key.remaining_requests, key.rpm) },
    { title: "Tokens left", kind: "number", of: (key) => leftOf(key.remaining_tokens, key.tpm) },
  ], shown, pool.keys.length ? "None was used lately." : "No model here needs a provider's key.");
}

function drawProcesses(pool) {
  const workers = pool.workers.map((worker) => ({ ...worker, role: "worker" }));
  const apis = pool.apis.map((id) => ({ id, role: "api", packs: null }));
  table("processes", [
    { title: "Process", kind: "name", of: (process) => process.id },
    { title: "Role", of: (process) => process.role },
    { title: "Packs leased", kind: "number",
      of: (process) => (process.packs === null ? "–" : whole.format(process.packs)) },
  ], [...workers, ...apis], "No process lives.");
}

function drawFaults(pool) {
  table("faults", [
    { title: "Model", kind: "name", of: (fault) => fault.model },
    { title: "When", kind: "when", of: (fault) => ago(fault.at_ms, pool.at_ms) },
    { title: "Failure", of: (fault) => mood([fault.kind, fault.status, fault.code]
      .filter((part) => part !== null).join(" · "), "bad") },
    { title: "Provider", of: (fault) => fault.provider || "–" },
    { title: "Request", kind: "id", of: (fault) => fault.request_id || "–" },
  ], pool.faults, "None among the last requests.");
}

/* A batch's lines are one entry together. */
function outcomeOf(request, word) {
  return request.requests > 1 ? `${whole.format(request.requests)} × ${word}` : word;
}

function drawRequests(pool) {
  const it = pool.spending;
  byId("spending").textContent = it.requests === 0 ? "" :
    `${count(it.requests, "request")} since ${ago(it.since_ms, pool.at_ms)}: ` +
    `${whole.format(it.used)} tokens used, ${whole.format(it.paid)} paid, ` +
    `${whole.format(it.saved)} saved, ${whole.format(it.waste)} wasted, ` +
    `${dollars(it.usd)}.`;
  table("requests", [
    { title: "Model", kind: "name", of: (request) => request.model },
    { title: "When", kind: "when", of: (request) => ago(request.at_ms, pool.at_ms) },
    { title: "Who", of: (request) => request.account },
    { title: "Provider", of: (request) => request.provider || "–" },
    { title: "Items", kind: "number", of: (request) => whole.format(request.items) },
    { title: "Tokens", kind: "number", of: (request) => whole.format(request.used) },
    { title: "Cost", kind: "number", of: (request) => dollars(request.usd) },
    { title: "Outcome", of: (request) => (request.kind
      ? mood(outcomeOf(request, request.kind), "bad")
      : mood(outcomeOf(request, "answered"), "good")) },
  ], pool.requests, "Nobody asked yet.");
}

function stateOf(answer) {
  const pool = answer.pool;
  if (answer.redis === "away") return ["Redis is away", "bad"];
  if (pool.workers.length === 0) return ["No worker lives", "bad"];
  const resting = pool.keys.filter((key) => key.condition !== "ready");
  if (resting.length && resting.length === pool.keys.length) return ["No key is usable", "bad"];
  const retired = resting.filter((key) => key.condition === "retired").length;
  if (retired) return [`${count(retired, "key")} retired`, "warn"];
  if (resting.length) return [`${count(resting.length, "key")} resting`, "warn"];
  return ["Healthy", "good"];
}

function say(words, kind) {
  const state = byId("state");
  if (state.textContent !== words) state.textContent = words; // else it would be read out again
  state.dataset.mood = kind;
}

function draw(answer) {
  login.hidden = true;
  board.hidden = answer.pool === null;
  byId("logout").hidden = !answer.login;
  byId("version").textContent = answer.version;
  say(...stateOf(answer));
  const isAway = answer.redis === "away";
  board.classList.toggle("stale", isAway);
  byId("when").textContent = answer.pool === null ? "nothing was seen yet"
    : isAway ? `seen ${duration(answer.age_s)} ago` : "";
  if (answer.pool === null || (isAway && drawnAt === answer.pool.at_ms)) return;
  drawnAt = answer.pool.at_ms;
  drawTiles(answer.pool);
  for (const part of [drawLanes, drawKeys, drawProcesses, drawFaults, drawRequests]) {
    part(answer.pool);
  }
}

// --- talking to the api

function ask(path, options = {}) {
  return fetch(`pool/${path}`, {
    cache: "no-store", credentials: "same-origin", redirect: "error",
    signal: AbortSignal.timeout(PATIENCE_MS), ...options,
  });
}

async function messageOf(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `The answer was ${response.status}`;
  }
}

function showLogin() {
  board.hidden = true;
  byId("tiles").replaceChildren();
  for (const drawn of board.querySelectorAll("table")) {
    drawn.replaceChildren();
    drawn.fingerprint = undefined;
  }
  byId("spending").textContent = "";
  byId("unused-keys").textContent = "";
  byId("when").textContent = "";
  byId("logout").hidden = true;
  say("Logged out", "quiet");
  if (!login.hidden) return;
  login.hidden = false;
  byId("master-key").focus();
}

async function poll() {
  clearTimeout(timer);
  if (isAsking || document.visibilityState !== "visible") return;
  isAsking = true;
  try {
    const response = await ask("status");
    if (response.ok) {
      draw(await response.json());
    } else if (response.status === 401 || response.status === 403) {
      showLogin();
      byId("login-word").textContent = response.status === 403 ? await messageOf(response) : "";
      return; // nothing to ask for until somebody has logged in
    } else {
      unreachable();
    }
  } catch {
    unreachable();
  } finally {
    isAsking = false;
  }
  timer = setTimeout(poll, POLL_MS);
}

function unreachable() {
  say("embedpool does not answer", "bad");
  board.classList.add("stale");
}

byId("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = byId("master-key");
  const word = byId("login-word");
  word.textContent = "";
  try {
    const response = await ask("login", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ master_key: field.value }),
    });
    if (response.ok) {
      field.value = "";
      await poll();
    } else {
      word.textContent = await messageOf(response);
      field.select();
    }
  } catch {
    word.textContent = "embedpool does not answer";
  }
});

byId("logout").addEventListener("click", async () => {
  clearTimeout(timer);
  try {
    await ask("logout", { method: "POST" });
  } finally {
    await poll(); // which shows the form, unless the session is still there
  }
});

document.addEventListener("visibilitychange", poll);
poll();
