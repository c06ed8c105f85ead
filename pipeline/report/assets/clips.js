"use strict";
// Clips: contact sheets, the table, and what opens behind each. Text from the dataset only ever becomes textContent.
const clips = JSON.parse(document.getElementById("clip-data").textContent);
const rows = clips.rows.map((row, number) => Object.assign({ number }, Object.fromEntries(clips.columns.map((name, place) => [name, row[place]]))));
rows.forEach((row) => { row.film = row.clip_id in clips.films; });

function make(name, text, more = {}) {
  const element = Object.assign(document.createElement(name), more);
  if (text !== undefined) element.textContent = text;
  return element;
}

function face(number) {
  const jpeg = clips.details[number].face;
  return jpeg ? make("img", undefined, { src: "data:image/jpeg;base64," + jpeg, alt: "", loading: "lazy" }) : make("span", undefined, { className: "blank" });
}

document.querySelectorAll("[data-sheet]").forEach((sheet) => {
  for (const number of clips.sheets[sheet.dataset.sheet]) {
    const row = rows[number];
    const button = make("button", undefined, { type: "button", title: row.path });
    button.setAttribute("aria-label", `clip ${row.clip_id}, ${clips.captions[number] || row.verdict}`);
    button.append(face(number), make("b", clips.captions[number] || ""), make("span", `${row.clip_id.slice(0, 8)} · ${row.start_s.toFixed(1)} s`));
    button.addEventListener("click", () => open(number));
    sheet.append(button);
  }
});

// A link to a contact sheet opens it.
document.querySelectorAll('a[href^="#sheet-"]').forEach((link) => link.addEventListener("click", () => { document.querySelector(link.getAttribute("href")).open = true; }));

const number = (title, field, digits, width = 84) => ({
  title, field, width, hozAlign: "right", headerHozAlign: "right", sorter: "number", sorterParams: { alignEmptyValues: "bottom" },
  formatter: (cell) => (cell.getValue() === null ? "–" : Number(cell.getValue()).toFixed(digits)),
});
const text = (title, field, width) => ({ title, field, width, sorter: "string", formatter: "plaintext" });
const table = new Tabulator("#table", {
  data: rows, index: "number", height: Math.min(520, 70 + 29 * Math.max(rows.length, 3)), layout: "fitDataStretch", columnHeaderSortMulti: false,
  placeholder: "no clip fits", keybindings: false,
  columns: [
    { ...text("file", "path", 190), tooltip: (_, cell) => make("span", cell.getValue()) },
    number("start, s", "start_s", 1, 74), number("length, s", "duration_s", 1, 80), text("verdict", "verdict", 78), text("reason", "reason", 150),
    number("value", "value", 2, 70), number("limit", "threshold", 2, 66), number("lead", "audio_lead_frames", 1, 60), number("conf.", "sync_confidence", 2, 66),
    number("leakage", "leakage", 2, 78), number("face, px", "face_height_p50_px", 0, 78), number("sharp.", "sharpness", 0, 70), number("speech", "speech_share", 2, 74),
    text("split", "split", 64), text("class", "clip_class", 72), text("identity", "identity", 110), text("id", "clip_id", 190),
    { title: "film", field: "film", width: 60, hozAlign: "center", formatter: (cell) => (cell.getValue() ? "▶" : "") },
  ],
  rowFormatter(row) {
    const element = row.getElement();
    element.tabIndex = 0;
    element.dataset.number = row.getData().number;
  },
});
table.on("rowClick", (_, row) => open(row.getData().number));
document.getElementById("table").addEventListener("keydown", (event) => {
  const row = event.target.closest(".tabulator-row");
  if (event.key === "Enter" && row) open(Number(row.dataset.number));
});
table.on("dataFiltered", (_, found) => { document.getElementById("shown").textContent = `${found.length} of ${rows.length} rows`; });

const controls = { search: "input", verdict: "change", reason: "change", "with-film": "change" };
function filter() {
  const [search, verdict, reason, film] = Object.keys(controls).map((id) => document.getElementById(id));
  const word = search.value.trim().toLowerCase();
  const hit = (row) => [row.path, row.clip_id, row.reason, row.identity].some((value) => value && value.toLowerCase().includes(word));
  table.setFilter((row) => (!word || hit(row)) && (!verdict.value || row.verdict === verdict.value) && (!reason.value || row.reason === reason.value) && (!film.checked || row.film));
}
Object.entries(controls).forEach(([id, event]) => document.getElementById(id).addEventListener(event, filter));

const dialog = document.getElementById("clip");
let shown = 0;

function open(place) {
  shown = place;
  const row = rows[place], detail = clips.details[place], film = clips.films[row.clip_id];
  document.getElementById("clip-title").textContent = `${row.path} · ${row.start_s.toFixed(2)}–${(row.start_s + row.duration_s).toFixed(2)} s`;
  document.getElementById("story").textContent = detail.story.join("\n");
  const picture = document.getElementById("picture");
  picture.replaceChildren();
  if (film) {
    const video = make("video", undefined, { controls: true, loop: true, preload: "auto", src: "data:video/mp4;base64," + film });
    picture.append(video, make("p", "The stored latents, decoded, with the stored sound: what a trainer reads."));
    video.addEventListener("timeupdate", () => follow(video.currentTime));
  } else {
    picture.append(face(place), make("p", row.verdict === "kept" ? "No film of this clip yet." : "Only kept clips have a film."));
  }
  if (!dialog.open) dialog.showModal();
  drawClip(row, detail);
  const scores = document.getElementById("scores");
  scores.replaceChildren(...clips.columns.map((name) => [name, row[name]]).concat(clips.scores.map((name, at) => [name, detail.scores[at]]))
    .filter(([, value]) => value !== null).map(([name, value]) => {
      const line = make("div");
      line.append(make("dt", name), make("dd", typeof value === "number" ? short(value) : String(value)));
      return line;
    }));
  dialog.scrollTop = 0;
}

function drawClip(row, detail) {
  const times = (values) => values.map((_, at) => +((row.duration_s * at) / Math.max(1, values.length - 1)).toFixed(3));
  const none = (word) => base({ title: { text: word, left: "center", top: "middle", textStyle: { color: colour("--soft"), fontSize: 12, fontWeight: "normal" } } });
  const chart = (id, option) => draw(document.getElementById(id), option);
  const two = [axis({ type: "value", scale: true, splitNumber: 3 }), axis({ type: "value", splitLine: { show: false }, axisLabel: { show: false } })];
  // At least two frames either way, so that a tenth of a frame does not look like drift.
  const leads = axis({ type: "value", splitNumber: 3, min: (found) => Math.min(-2, Math.floor(found.min)), max: (found) => Math.max(2, Math.ceil(found.max)) });
  if (detail.mouth) {
    const named = { "mouth opening": detail.mouth };
    if (detail.sound) named["sound, as stored"] = detail.sound;
    chart("mouth-chart", lines(times(detail.mouth), named, detail.sound ? { yAxis: two } : {}));
  } else chart("mouth-chart", none("no mouth was measured"));
  chart("lead-chart", detail.leads && detail.leads.length > 1 ? lines(detail.leads.map((_, at) => at), { lead: detail.leads }, { yAxis: leads }) : none("too short for a curve"));
  chart("box-chart", detail.box ? lines(times(detail.box.x), detail.box) : none("no face"));
}

function follow(time) {
  const chart = drawn.get(document.getElementById("mouth-chart"));
  chart.setOption({ series: [{ markLine: { silent: true, symbol: "none", label: { show: false }, lineStyle: { color: colour("--bad"), type: "solid", width: 1 }, data: [{ xAxis: time }] } }] });
}

function step(by) {
  const order = table.getRows("active").map((row) => row.getData().number);
  const at = order.indexOf(shown);
  if (order.length) open(order[(at + by + order.length) % order.length]);
}
document.getElementById("previous").addEventListener("click", () => step(-1));
document.getElementById("next").addEventListener("click", () => step(1));
document.getElementById("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("close", () => document.getElementById("picture").replaceChildren());
