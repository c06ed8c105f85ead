"use strict";
// Charts: every element with data-chart is drawn from the facts when it comes into view, in the colours of the page.
const facts = JSON.parse(document.getElementById("facts").textContent);
const drawn = new Map();

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function short(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  const size = Math.abs(value);
  if (size >= 1e9) return +(value / 1e9).toPrecision(3) + "G";
  if (size >= 1e6) return +(value / 1e6).toPrecision(3) + "M";
  return String(+value.toPrecision(size >= 1000 ? 4 : 3));
}

function length(hours) {
  if (hours >= 1) return hours.toFixed(2) + " h";
  return hours * 60 >= 1 ? (hours * 60).toFixed(1) + " min" : (hours * 3600).toFixed(1) + " s";
}

// Small datasets are told in the unit that suits them, so that an axis does not read 0.0002 h.
function inUnit(hours) {
  const most = Math.max(0, ...hours.flat());
  if (most >= 1) return [1, "h"];
  return most * 60 >= 1 ? [60, "min"] : [3600, "s"];
}

function axis(more) {
  const line = { lineStyle: { color: colour("--line") } };
  return {
    axisLine: line, axisTick: { show: false }, splitLine: line, nameTextStyle: { color: colour("--soft") },
    axisLabel: { color: colour("--soft"), fontSize: 11, hideOverlap: true, formatter: short }, ...more,
  };
}

function measured(unit, more) {
  const own = { axisLabel: { color: colour("--soft"), fontSize: 11, hideOverlap: true, formatter: (value) => `${short(value)} ${unit}`.trim() } };
  return axis({ type: "value", splitNumber: 3, ...own, ...more });
}

function base(more) {
  return {
    animation: false, aria: { enabled: true }, textStyle: { fontFamily: "system-ui, sans-serif", color: colour("--ink") },
    grid: { left: 8, right: 14, top: 26, bottom: 4, outerBoundsMode: "same", outerBoundsContain: "axisLabel" },
    legend: { show: false },
    tooltip: {
      trigger: "axis", confine: true, renderMode: "richText", backgroundColor: colour("--raised"), borderColor: colour("--line"),
      textStyle: { color: colour("--ink"), fontSize: 12 },
    },
    ...more,
  };
}

function histogram(figure) {
  const [scale, unit] = figure.files ? [1, "files"] : inUnit([figure.kept, figure.dropped]);
  const edges = figure.edges;
  const bars = (name, values, fill, more) => ({
    name, type: "bar", stack: "all", barCategoryGap: "8%", barMaxWidth: 26, itemStyle: { color: fill }, data: values.map((value) => value * scale), ...more,
  });
  const at = (value) => ((value - edges[0]) / (edges[edges.length - 1] - edges[0])) * (edges.length - 1) - 0.5;
  const inside = (figure.limits || []).filter((value) => value >= edges[0] && value <= edges[edges.length - 1]);
  const series = figure.files
    ? [bars("files", figure.files, colour("--accent"))]
    : [bars("kept", figure.kept, colour("--accent")), bars("dropped", figure.dropped, colour("--muted"))];
  // A category axis has no place between its bars, so limits stand on a hidden value axis over the same range.
  series.push({
    type: "line", xAxisIndex: 1, data: [], tooltip: { show: false },
    markLine: {
      silent: true, symbol: "none", label: { show: false }, lineStyle: { color: colour("--bad"), type: "dashed", width: 1 },
      data: inside.map((value) => ({ xAxis: at(value) + 0.5 })),
    },
  });
  return base({
    xAxis: [
      axis({ type: "category", data: edges.slice(0, -1).map(short), splitLine: { show: false } }),
      { type: "value", show: false, min: 0, max: edges.length - 1 },
    ],
    yAxis: measured(unit, figure.files ? { minInterval: 1 } : {}),
    series,
  });
}

function bars(names, values, unit, more = {}) {
  return base({
    xAxis: measured(unit, { splitNumber: 4 }),
    yAxis: axis({ type: "category", data: names, inverse: true, axisLabel: { color: colour("--soft"), fontSize: 11, width: 130, overflow: "truncate" } }),
    series: values, ...more,
  });
}

function lines(points, named, more = {}) {
  const fills = [colour("--accent"), colour("--soft"), colour("--warn")];
  return base({
    legend: { show: Object.keys(named).length > 1, top: 0, right: 0, icon: "roundRect", itemWidth: 14, itemHeight: 4, textStyle: { color: colour("--soft"), fontSize: 11 } },
    xAxis: axis({ type: "value", min: points[0], max: points[points.length - 1], splitLine: { show: false } }),
    yAxis: axis({ type: "value", scale: true, splitNumber: 3 }),
    series: Object.entries(named).map(([name, values], place) => ({
      name, type: "line", showSymbol: false, yAxisIndex: more.yAxis && Array.isArray(more.yAxis) ? Math.min(place, more.yAxis.length - 1) : 0,
      lineStyle: { color: fills[place % 3], width: 1.5 }, itemStyle: { color: fills[place % 3] },
      data: values.map((value, at) => [points[at], value]),
    })),
    ...more,
  });
}

const makers = {
  funnel() {
    const stages = facts.funnel.map((stage) => stage.name);
    const reasons = [...new Set(facts.funnel.flatMap((stage) => stage.losses.map((loss) => loss.reason)))];
    // As the table below: one unit, so that it can be added.
    const [scale, unit] = Math.max(...facts.funnel.map((stage) => stage.hours_in)) >= 1 ? [1, "h"] : [3600, "s"];
    const rows = [{ name: "passed on", type: "bar", stack: "all", barWidth: 22, itemStyle: { color: colour("--accent") }, data: facts.funnel.map((stage) => stage.hours_out * scale) }];
    reasons.forEach((reason, place) => rows.push({
      name: reason, type: "bar", stack: "all", itemStyle: { color: colour("--muted"), opacity: 1 - 0.6 * (place / reasons.length), borderColor: colour("--back"), borderWidth: 1 },
      data: facts.funnel.map((stage) => (stage.losses.find((loss) => loss.reason === reason) || { hours: 0 }).hours * scale),
    }));
    const tooltip = { ...base({}).tooltip, formatter: (shown) => shown[0].name + "\n" + shown.filter((row) => row.value > 0).map((row) => row.seriesName + "  " + length(row.value / scale)).join("\n") };
    return bars(stages, rows, unit, { tooltip });
  },
  figure: (element) => histogram(facts.figures[element.dataset.number]),
  "file-figure": (element) => histogram(facts.file_figures[element.dataset.number]),
  owner(element) {
    const owner = facts.owners[element.dataset.number];
    const [scale, unit] = inUnit(owner.top.map((row) => row.hours));
    return bars(owner.top.map((row) => row.name), [{ type: "bar", barMaxWidth: 16, itemStyle: { color: colour("--accent") }, data: owner.top.map((row) => row.hours * scale) }], unit);
  },
  leakage() {
    const rows = facts.audits.leakage.policies.filter((row) => row.kept_clips);
    const of = (key, fill) => rows.map((row) => ({ value: row[key], itemStyle: { color: colour(fill) } }));
    return bars(rows.map((row) => row.policy), [
      { name: "mean leakage", type: "bar", barMaxWidth: 11, itemStyle: { color: colour("--accent") }, data: of("kept_mean", "--accent") },
      { name: "share over the limit", type: "bar", barMaxWidth: 11, itemStyle: { color: colour("--muted") }, data: of("kept_above", "--muted") },
    ], "", { legend: { show: true, top: 0, right: 0, itemWidth: 14, itemHeight: 8, textStyle: { color: colour("--soft"), fontSize: 11 } } });
  },
  moved() {
    const rule = facts.what_if[document.getElementById("rule").value];
    if (!rule) return base({ title: { text: "no clip is judged by any rule", left: "center", top: "middle", textStyle: { color: colour("--soft"), fontSize: 13, fontWeight: "normal" } } });
    const { thresholds, hours, clips } = rule.moved;
    const [scale, unit] = inUnit(hours);
    const option = lines(thresholds, { "kept": hours.map((value) => value * scale) }, { yAxis: measured(unit, { min: 0 }) });
    option.xAxis.name = rule.setting; option.xAxis.nameLocation = "middle"; option.xAxis.nameGap = 24; option.grid.bottom = 26;
    Object.assign(option.series[0], { step: rule.side === "min" ? "start" : "end", showSymbol: true, symbolSize: 4, areaStyle: { color: colour("--accent"), opacity: 0.1 } });
    if (rule.state === "judged") option.series[0].markLine = { symbol: "none", silent: true, label: { formatter: "in force", color: colour("--bad"), fontSize: 11 }, lineStyle: { color: colour("--bad"), type: "dashed", width: 1 }, data: [{ xAxis: rule.threshold }] };
    option.tooltip.formatter = (shown) => rule.setting + " = " + short(shown[0].value[0]) + "\n" + length(shown[0].value[1] / scale) + ", " + clips[shown[0].dataIndex] + " clips";
    return option;
  },
};

function draw(element, option) {
  let chart = drawn.get(element);
  if (!chart) {
    chart = echarts.init(element, null, { renderer: "svg" });
    drawn.set(element, chart);
    new ResizeObserver(() => chart.resize()).observe(element);
  }
  chart.setOption(option, true);
}

const rules = document.getElementById("rule");
const best = Math.max(...facts.what_if.map((rule) => rule.hours_gained));
facts.what_if.forEach((rule, place) => { if (rule.moved.thresholds.length) rules.add(new Option(rule.setting, place, false, rule.hours_gained === best)); });
rules.addEventListener("change", () => draw(document.querySelector("[data-chart=moved]"), makers.moved()));
const seen = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => {
  seen.unobserve(target);
  draw(target, makers[target.dataset.chart](target));
}), { rootMargin: "300px" });
document.querySelectorAll("[data-chart]").forEach((element) => seen.observe(element));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach((chart, element) => element.dataset.chart && draw(element, makers[element.dataset.chart](element))));
