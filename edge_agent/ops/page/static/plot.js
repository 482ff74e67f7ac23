// One chart: the means of one field as a line, and from the least to the greatest as a band.
// uPlot draws; what is dragged, zoomed and read is told to whoever made the plot.

const HEIGHT = 200;
const MOVES = ["mousemove", "mouseleave"];
// How the axis of time is written: marks this far apart, and then where a day or a year begins.
const TIMES = [
  [3600 * 24 * 365, "{YYYY}", null, null, null, null, null, null, 1],
  [3600 * 24 * 28, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [3600 * 24, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [60, "{HH}:{mm}", "\n{D} {MMM} {YYYY}", null, "\n{D} {MMM}", null, null, null, 1],
  [1, ":{ss}", "\n{D} {MMM} {YYYY} {HH}:{mm}", null, "\n{D} {MMM} {HH}:{mm}", null,
    "\n{HH}:{mm}", null, 1],
  [0.001, ":{ss}.{fff}", "\n{D} {MMM} {YYYY} {HH}:{mm}", null, "\n{D} {MMM} {HH}:{mm}", null,
    "\n{HH}:{mm}", null, 1],
];

function colourOf(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export class Plot {
  // `zoom(from, to)` is called with the seconds that were marked or moved to, `read(index)` with
  // the point under the pointer, or null.
  constructor(place, number, { zoom, zoomOut, read }) {
    this.place = place;
    this.zoom = zoom;
    const line = colourOf(`--plot-${number % 6}`);
    const axis = { stroke: colourOf("--soft"), grid: { stroke: colourOf("--grid"), width: 1 },
      ticks: { stroke: colourOf("--grid"), width: 1 } };
    const edge = { stroke: "transparent", width: 0, points: { show: false } };
    this.chart = new globalThis.uPlot({
      width: Math.max(place.clientWidth, 200),
      height: HEIGHT,
      legend: { show: false },
      scales: { x: { time: true, auto: false }, y: { range: roomy } },
      axes: [
        { ...axis, values: TIMES, space: 70 },
        { ...axis, size: 62 },
      ],
      series: [{}, { ...edge }, { ...edge }, { stroke: line, width: 1.5 }],
      bands: [{ series: [2, 1], fill: `${line}33` }],
      cursor: {
        y: false,
        points: { fill: line },
        // The others show where the pointer is; what is marked in one is no affair of theirs.
        sync: { key: "time", setSeries: false, filters: { pub: (type) => MOVES.includes(type) } },
        drag: { x: true, y: false, setScale: false },
        // With the shift key a drag moves along in time instead.
        bind: {
          mousedown: (chart, target, mark) => (event) => event.shiftKey ? null : mark(event),
          dblclick: () => () => zoomOut(),
        },
      },
      hooks: {
        setSelect: [(chart) => this.#marked(chart)],
        setCursor: [(chart) => read(chart.cursor.idx ?? null)],
      },
    }, [[], [], [], []], place);
    this.#movedByDragging();
    this.watcher = new ResizeObserver(() => {
      this.chart.setSize({ width: Math.max(place.clientWidth, 200), height: HEIGHT });
    });
    this.watcher.observe(place);
  }

  // The line, from one moment to another.
  show(line, from, to) {
    this.line = line;
    this.chart.batch(() => {
      this.chart.setData([line.times, line.low, line.high, line.mean], false);
      this.chart.setScale("x", { min: from, max: to });
    });
  }

  remove() {
    this.watcher.disconnect();
    this.chart.destroy();
  }

  #marked(chart) {
    const { left, width } = chart.select;
    if (width < 5) return;
    const [from, to] = [left, left + width].map((x) => chart.posToVal(x, "x"));
    chart.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.zoom(from, to);
  }

  // With the shift key held, or with a finger, the chart is moved.
  #movedByDragging() {
    const { chart, zoom } = this;
    const surface = chart.over;
    let begun = null;
    surface.addEventListener("pointerdown", (event) => {
      if (!event.shiftKey && event.pointerType !== "touch") return;
      const { min, max } = chart.scales.x;
      begun = { x: event.clientX, min, max };
      surface.setPointerCapture(event.pointerId);
    });
    surface.addEventListener("pointermove", (event) => {
      if (begun === null) return;
      const { min, max } = begun;
      const by = ((begun.x - event.clientX) / surface.clientWidth) * (max - min);
      begun.now = [min + by, max + by];
      chart.setScale("x", { min: min + by, max: max + by });
    });
    const end = () => {
      const now = begun?.now;
      begun = null;
      if (now) zoom(...now);
    };
    surface.addEventListener("pointerup", end);
    surface.addEventListener("pointercancel", end);
  }
}

// A little room above and below; a line that never changes lies in the middle.
function roomy(chart, low, high) {
  if (low === null || high === null) return [0, 1];
  const room = (high - low) * 0.06 || Math.abs(high) * 0.05 || 1;
  return [low - room, high + room];
}
