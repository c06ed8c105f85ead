"use strict";
// The figure of an ablation: for each noise level a point for each condition, with its intervals as lines.
const facts = JSON.parse(document.getElementById("facts").textContent);
const bands = Object.entries(JSON.parse(document.getElementById("bands").textContent));
const COLOURS = ["#3b7dd8", "#d8743b", "#2f9e6e", "#a259c4", "#c2403f", "#7a7f87"];

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function lines(arm, x, over) {
  return bands.flatMap(([key], band) => {
    const bar = arm.gap[key] && arm.gap[key][over];
    return bar ? [[x(band), bar[0]], [x(band), bar[1]], [null, null]] : [];
  });
}

function series(arm, place, number) {
  const name = `${arm.policy} ${arm.masked ? "masked" : "unmasked"}`;
  const policies = [...new Set(facts.arms.map((each) => each.policy))];
  const fill = COLOURS[policies.indexOf(arm.policy) % COLOURS.length];
  const x = (band) => band + (place - (number - 1) / 2) * 0.8 / number;
  const bar = (over, width) => ({
    type: "line", name, data: lines(arm, x, over), symbol: "none", silent: true, itemStyle: { color: fill },
    lineStyle: { color: fill, width, opacity: width > 1 ? 0.45 : 1 },
  });
  const points = bands.flatMap(([key], band) => (arm.gap[key] ? [[x(band), arm.gap[key].mean]] : []));
  const mark = { color: arm.masked ? fill : colour("--back"), borderColor: fill, borderWidth: 2 };
  return [bar("over_clips", 5), bar("over_seeds", 1), { type: "scatter", name, data: points, symbolSize: 9, itemStyle: mark }];
}

const soft = { color: colour("--soft"), fontSize: 11 };
const chart = echarts.init(document.getElementById("gaps"), null, { renderer: "svg" });
chart.setOption({
  animation: false, aria: { enabled: true }, textStyle: { fontFamily: "system-ui, sans-serif", color: colour("--ink") },
  grid: { left: 70, right: 14, top: 44, bottom: 26 },
  legend: { top: 0, textStyle: { color: colour("--ink") }, type: "scroll" },
  tooltip: { renderMode: "richText", formatter: (at) => `${at.seriesName}: ${at.value[1].toPrecision(3)}` },
  xAxis: {
    type: "value", min: -0.5, max: bands.length - 0.5, interval: 0.5, splitLine: { show: false }, axisTick: { show: false },
    axisLabel: { ...soft, formatter: (at) => (Number.isInteger(at) && bands[at] ? bands[at][1] : "") },
  },
  yAxis: {
    type: "value", scale: true, name: "audio gap", axisLine: { onZero: false }, nameTextStyle: soft, axisLabel: soft,
    splitLine: { lineStyle: { color: colour("--line") } },
  },
  series: facts.arms.flatMap((arm, place) => series(arm, place, facts.arms.length)),
});
addEventListener("resize", () => chart.resize());
