"use strict";
// Everything that is text: the head, the table of the best, costs, the command, and what the pointer is on.

const WORDS = { done: "done", stopped: "stopped by the policy", diverged: "diverged", running: "running", interrupted: "interrupted" };

function drawHead(problem) {
  byId("title").textContent = content.name;
  document.title = `${content.name}: jbn report`;
  const about = content.about, counts = Object.entries(about.counts).map(([word, count]) => `${count} ${WORDS[word] || word}`);
  const ended = { running: "The run has not ended", interrupted: "The run was interrupted", done: "" }[content.state];
  const count = `${content.count} configuration${content.count === 1 ? "" : "s"}`;
  const summary = byId("summary");
  summary.textContent = problem || [[ended, `${count}: ${counts.join(", ")}`].filter(Boolean).join(": "), bestWords()].filter(Boolean).join(". ") + ".";
  summary.classList.toggle("problem", Boolean(problem));
  fill(byId("facts"), facts(about));
}

function bestWords() {
  if (content.best === null) return content.segments ? "Every configuration so far has diverged" : "No segment is done yet";
  const error = content.configs.error ? content.configs.error[content.best] : NaN;
  const spread = Number.isNaN(error) ? "" : ` ± ${digits(error, 2)}`;
  const test = content.winner && Object.entries(content.winner.test).filter(([name]) => name !== "loss" || Object.keys(content.winner.test).length === 1)
    .map(([name, value]) => `${title(name)} on the test part ${digits(value)}`).join(", ");
  const value = `${content.objective.label} ${digits(content.configs.final[content.best], 5)}${spread}`;
  return `Best: configuration ${content.configs.id[content.best]}, ${value}${test ? `; ${test}` : ""}`;
}

function facts(about) {
  const each = [about.seeds > 1 ? `${about.seeds} seeds` : "", about.folds > 1 ? `${about.folds} folds` : "", about.rounds > 1 ? `${about.rounds} rounds` : "", about.policy ? `policy ${about.policy}` : ""].filter(Boolean);
  const names = Array.isArray(about.optimizer) ? about.optimizer.join(", ") : about.optimizer;
  const fixed = Object.entries(content.constants).map(([name, value]) => `${title(name)} ${value}`).join(", ");
  return {
    data: about.data, training: [about.epochs && `${about.epochs} epochs`, ...each].filter(Boolean).join(", "),
    model: [about.model, about.loss && `loss ${title(about.loss)}`, names && `optimizer ${names}`].filter(Boolean).join(", "),
    "not varied": fixed, started: about.started && `${localTime(about.started)}${about.finished ? `, ended ${localTime(about.finished)}` : ""}`,
  };
}

function localTime(text) { return text.replace("T", " ").replace("+00:00", " UTC"); }

/** A list of terms; what is empty is left out. */
function fill(list, entries) {
  list.replaceChildren(...Object.entries(entries).filter(([, value]) => value).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, String(value))]));
}

function drawTable() {
  const rows = [...new Set([...content.order.slice(0, 10), ...state.pinned])];
  const table = byId("best-table"), round = content.configs.round;
  const focused = table.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
  const heads = ["", "id", ...(round ? ["round"] : []), shortLabel(content.objective.label), ...content.axes.map((axis) => title(axis.name)), "status"];
  const head = element("thead", {}, element("tr", {}, ...heads.map((text) => element("th", { scope: "col" }, text))));
  table.replaceChildren(head, element("tbody", {}, ...rows.map((row) => tableRow(row, round))));
  const again = [...table.querySelectorAll("input")].find((own) => own.getAttribute("aria-label") === focused);
  if (again) again.focus();
}

function tableRow(row, round) {
  const id = content.configs.id[row], box = element("input", { type: "checkbox", checked: state.pinned.includes(row), "aria-label": `mark configuration ${id}` });
  box.addEventListener("change", () => pin(row));
  const error = content.configs.error ? content.configs.error[row] : NaN;
  const value = digits(content.configs.final[row], 5) + (Number.isNaN(error) ? "" : ` ± ${digits(error, 2)}`);
  const cells = [String(id), ...(round ? [String(round[row])] : []), value, ...content.axes.map((axis) => valueText(axis, axis.values[row])), WORDS[content.configs.status[row]]];
  return element("tr", row === content.best ? { class: "best" } : {}, element("td", {}, box), ...cells.map((text) => element("td", {}, text)));
}

function drawChanges() {
  const box = byId("changes"), changes = content.winner ? content.winner.changes : [];
  if (!changes.length) { box.replaceChildren(); return; }
  const words = (own) => (own.copied ? `went on from configuration ${own.copied[0]}${content.about.seeds > 1 ? `, seed ${own.copied[1]}` : ""}`
    : Object.entries(own.values).map(([name, value]) => `${title(name)} = ${value}`).join(", "));
  const lines = changes.map((own) => element("tr", {}, element("td", {}, String(own.segment)), element("td", { style: "text-align:left" }, words(own))));
  const head = element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "after segment"), element("th", { scope: "col", style: "text-align:left" }, "what the policy did with the winner")));
  box.replaceChildren(element("div", { class: "scroll" }, element("table", {}, head, element("tbody", {}, ...lines))));
}

function drawCost() {
  const row = (own) => {
    const ratio = own.planned && own.happened !== null ? digits(own.happened / own.planned, 3) : "–";
    const text = (value) => (value === null ? "–" : `${digits(value, 3)} ${own.unit}`.trim());
    return element("tr", {}, ...[own.name, text(own.planned), text(own.happened), own.name === "programs" ? "" : ratio].map((cell) => element("td", {}, cell)));
  };
  const head = element("thead", {}, element("tr", {}, ...["", "planned", "actual", "ratio"].map((text) => element("th", { scope: "col" }, text))));
  byId("cost-table").replaceChildren(head, element("tbody", {}, ...content.cost.map(row)));
  byId("cost-note").textContent = "Planned is what the plan itself reckons with, all configurations to the last epoch and nothing compiled before. Actual programs are those that were new to the process; "
    + "what was compiled by an earlier run is read from a cache. Memory is the peak of the whole process.";
}

function drawCommand() {
  const { line, spec, note: words } = content.command, parts = [];
  if (spec) parts.push(element("p", {}, "Save this as again.toml:"), copied(spec));
  if (line) parts.push(copied(line));
  if (words) parts.push(element("p", {}, words));
  if (line) parts.push(element("p", { class: "note" }, "It writes to a new folder. Paths of data are as they were typed."));
  byId("command").replaceChildren(...parts);
  const { versions, device } = content.about;
  fill(byId("versions"), { versions: Object.entries(versions).map(([name, value]) => `${name} ${value}`).join(", "), device: [device.kind, device.machine].filter(Boolean).join(", ") });
}

/** Text in a box, with a button that copies it. */
function copied(text) {
  const button = element("button", { type: "button" }, "copy");
  button.addEventListener("click", () => {
    const select = () => getSelection().selectAllChildren(code);
    const copying = navigator.clipboard ? navigator.clipboard.writeText(text) : Promise.reject(new Error("no clipboard"));
    copying.then(() => { button.textContent = "copied"; }).catch(() => { select(); button.textContent = "selected"; });
    setTimeout(() => { button.textContent = "copy"; }, 2000);
  });
  const code = element("code", {}, text);
  return element("div", {}, element("pre", {}, code), button);
}

/** Shows what the pointer is on, and marks what is clicked; `find` says which row and segment a point is. */
function followPointer(plot, find) {
  plot.find = find;
  if (plot.pointed) return;
  plot.pointed = true;
  const own = (event) => event.points.filter((point) => point.data.rows || point.data.single).map((point) => plot.find(point)).find(Boolean);
  plot.on("plotly_hover", (event) => { const found = own(event); if (found) showTip(found, event.event); });
  plot.on("plotly_unhover", () => { byId("tip").hidden = true; });
  plot.on("plotly_click", (event) => { const found = own(event); if (found) pin(found.row); });
}

function showTip({ row, segment }, event) {
  const lines = tipLines(row, segment).map(([name, value]) => element("tr", {}, element("td", {}, name), element("td", {}, value)));
  const tip = byId("tip");
  tip.replaceChildren(element("strong", {}, `configuration ${content.configs.id[row]}`), element("table", {}, element("tbody", {}, ...lines)));
  tip.hidden = false;
  const left = event.clientX + 18 + tip.offsetWidth > innerWidth ? event.clientX - 18 - tip.offsetWidth : event.clientX + 18;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 6))}px`;
}

function tipLines(row, segment) {
  const metric = content.metrics[state.metric], lines = [];
  if (segment !== null && segment < content.segments) lines.push([`${metric.label}, epoch ${segment + 1}`, digits(metric.mean[row * content.segments + segment], 5)]);
  lines.push([`${content.objective.label}, last`, digits(content.configs.final[row], 5)]);
  lines.push(...content.axes.map((axis) => [title(axis.name), valueText(axis, axis.values[row])]));
  if (content.configs.round) lines.push(["round", String(content.configs.round[row])]);
  return [...lines, ["status", WORDS[content.configs.status[row]] || content.configs.status[row]], ["steps", String(content.configs.steps[row])]];
}
