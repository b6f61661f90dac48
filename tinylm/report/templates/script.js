"use strict";
// Values on hover and by arrow keys; the data of each chart as CSV. The page reads fully without this script.
const tip = document.getElementById("tip");
let current = null;

function show(mark, x, y) {
  hide();
  current = mark;
  mark.classList.add("on");
  tip.textContent = mark.dataset.tip;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(6, Math.min(x + 12, innerWidth - box.width - 6)) + "px";
  tip.style.top = (y - box.height - 10 > 0 ? y - box.height - 10 : y + 16) + "px";
}

function hide() {
  if (current) current.classList.remove("on");
  current = null;
  tip.hidden = true;
}

document.addEventListener("pointermove", (event) => {
  const mark = event.target.closest && event.target.closest(".mark");
  if (mark) show(mark, event.clientX, event.clientY);
  else if (current && event.pointerType === "mouse") hide();
});
document.addEventListener("pointerdown", (event) => {
  const mark = event.target.closest && event.target.closest(".mark");
  if (mark) show(mark, event.clientX, event.clientY);
  else hide();
});
addEventListener("scroll", hide, { passive: true });

function visibleMarks(chart) {
  return [...chart.querySelectorAll(".mark")].filter((mark) => mark.getClientRects().length);
}

for (const chart of document.querySelectorAll(".chart")) {
  chart.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") hide();
    if (!step) return;
    event.preventDefault();
    const marks = visibleMarks(chart);
    if (!marks.length) return;
    const at = marks.indexOf(current);
    const next = marks[at < 0 ? (step > 0 ? 0 : marks.length - 1) : (at + step + marks.length) % marks.length];
    const box = next.getBoundingClientRect();
    show(next, box.left + box.width / 2, box.top);
  });
  chart.addEventListener("blur", hide);
}

function csvOf(figure) {
  const quote = (text) => (/[",\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text);
  const rows = [...figure.querySelectorAll("table tr")];
  return rows.map((row) => [...row.cells].map((cell) => quote(cell.textContent)).join(",")).join("\n") + "\n";
}

function say(button, word) {
  const before = button.textContent;
  button.textContent = word;
  setTimeout(() => (button.textContent = before), 1400);
}

async function copy(text) {
  if (navigator.clipboard && isSecureContext) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("copy refused");
}

for (const button of document.querySelectorAll("button[data-csv]")) {
  button.addEventListener("click", async () => {
    const figure = button.closest("figure");
    const text = csvOf(figure);
    if (button.dataset.csv === "copy") {
      copy(text).then(() => say(button, "Copied"), () => say(button, "Not allowed"));
      return;
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = figure.id + ".csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}
