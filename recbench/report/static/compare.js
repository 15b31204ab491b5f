// Two methods side by side, with a slider, blinking or as their difference, and their scores image by image.
"use strict";
(() => {
  const { all, one, state, sheets, load, colour, repaint } = window.recbench;
  const root = one("[data-compare]");
  const sheet = sheets?.find((each) => each.data.name === "images");
  if (!root || !sheet) return;
  const { rows, heads } = sheet.data;
  const [width, height, count] = ["--w", "--h", "--n"].map((name) => +sheet.root.style.getPropertyValue(name));
  const sides = Object.fromEntries(all("[data-side]", root).map((select) => [select.dataset.side, select]));
  const picture = one("[data-compare-image]", root);
  const zoom = one("[data-zoom]", root);
  const split = one("[data-split]", root);
  const gain = one("[data-compare-gain]", root);
  const pause = one("[data-pause]", root);
  const panes = one("[data-panes]", root);
  const modes = all("[name=compare-mode]", root);
  const centre = { x: +state.get("compare.x", 0.5) || 0.5, y: +state.get("compare.y", 0.5) || 0.5 };
  const short = (text) => (text.length > 48 ? `${text.slice(0, 47)}…` : text);
  // Options are named by the method's page, so that an address stays right when ranks change.
  for (const select of Object.values(sides)) rows.forEach((row) => select.add(new Option(short(row.label), row.slug || "test-image")));
  heads.forEach((head) => picture.add(new Option(head, head.slice(1))));
  picture.value = heads[sheet.data.groups[0].columns[0]].slice(1);
  sides.a.selectedIndex = Math.min(1, rows.length - 1);
  sides.b.selectedIndex = Math.min(2, rows.length - 1);
  state.bind(sides.a, "a");
  state.bind(sides.b, "b");
  state.bind(picture, "image");
  state.bindRadios(modes, "compare");
  state.bind(zoom, "zoom", "input");
  state.bind(split, "split", "input");
  state.bind(gain, "compare.gain");
  const row = (side) => sides[side].selectedIndex;
  const mode = () => modes.find((radio) => radio.checked).value;
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  let layers = [];
  let timer = 0;

  function layer(view, ...shown) {
    const element = document.createElement("div");
    element.className = "layer";
    element.style.backgroundImage = shown.map((number) => sheet.source[number]).join(", ");
    if (shown.length > 1) {
      element.classList.add("differs");
      element.style.setProperty("--gain", gain.value);
    }
    view.append(element);
    layers.push(element);
    return element;
  }
  function pane(title, scores = "") {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    const name = document.createElement("strong");
    name.textContent = title;
    name.className = "clamp";
    caption.append(name, scores);
    const view = document.createElement("div");
    view.className = "view";
    view.tabIndex = 0;
    view.setAttribute("role", "img");
    view.setAttribute("aria-label", `${title}, test image ${heads[picture.selectedIndex]}: ${scores}`);
    view.style.aspectRatio = `${width} / ${height}`;
    figure.append(caption, view);
    panes.append(figure);
    return { view, name };
  }
  function show() {
    clearInterval(timer);
    panes.replaceChildren();
    layers = [];
    const now = mode();
    panes.dataset.mode = now;
    for (const element of all("[data-only]", root)) element.hidden = element.dataset.only !== now;
    const label = (side) => `${side.toUpperCase()}: ${rows[row(side)].label}`;
    const scores = (side) => rows[row(side)].captions[picture.selectedIndex].replace(/^#.*/, "");
    const plain = (title, number, text) => layer(pane(title, text).view, number);
    if (now === "side" || now === "difference") {
      plain(label("a"), row("a"), scores("a"));
      plain(label("b"), row("b"), scores("b"));
      if (now === "side" && row("a") && row("b")) plain(rows[0].label, 0);
      if (now === "difference") layer(pane(`|A − B| × ${gain.value}`).view, row("a"), row("b"));
    } else {
      const both = pane(`${label("a")} · ${label("b")}`);
      layer(both.view, row("a"));
      const upper = layer(both.view, row("b"));
      if (now === "slider") {
        const edge = document.createElement("div");
        edge.className = "edge";
        both.view.append(edge);
        const cut = () => both.view.style.setProperty("--split", `${split.value}%`);
        upper.classList.add("cut");
        split.oninput = cut;
        cut();
      } else {
        let second = false;
        const turn = () => {
          second = !second;
          upper.style.visibility = second ? "visible" : "hidden";
          both.name.textContent = label(second ? "b" : "a");
        };
        turn();
        pause.onclick = () => {
          const paused = pause.getAttribute("aria-pressed") !== "true";
          pause.setAttribute("aria-pressed", String(paused));
          if (paused) clearInterval(timer);
          else timer = setInterval(turn, 700);
        };
        both.view.onclick = () => { if (pause.getAttribute("aria-pressed") === "true") turn(); };
        if (matchMedia("(prefers-reduced-motion: reduce)").matches) pause.setAttribute("aria-pressed", "true");
        if (pause.getAttribute("aria-pressed") !== "true") timer = setInterval(turn, 700); // below three flashes a second
      }
      plain(rows[0].label, 0);
    }
    one("[data-compare-scores]", root).textContent = now === "side" || now === "difference" ? "" : `A ${scores("a")} — B ${scores("b")}`;
    paint();
    draw();
  }
  function paint() {
    panes.classList.toggle("zoomed", +zoom.value > 1);
    for (const element of layers) {
      const room = element.clientWidth;
      const [across, down] = [room * zoom.value, (room * zoom.value * height) / width];
      const half = 0.5 / zoom.value;
      centre.x = clamp(centre.x, half, 1 - half);
      centre.y = clamp(centre.y, half, 1 - half);
      element.style.backgroundSize = `${across * count}px ${down}px`;
      element.style.backgroundPosition = `${-(picture.selectedIndex * across + (centre.x - half) * across)}px ${-(centre.y - half) * down}px`;
    }
    state.set("compare.x", centre.x.toFixed(3), "0.500");
    state.set("compare.y", centre.y.toFixed(3), "0.500");
  }
  function zoomTo(value) {
    zoom.value = clamp(value, 1, 12);
    zoom.dispatchEvent(new Event("input"));
  }
  panes.addEventListener("pointerdown", (event) => {
    const view = event.target.closest(".view");
    if (!view || event.button) return;
    const box = view.getBoundingClientRect();
    const sliding = mode() === "slider" && one(".edge", view) && (+zoom.value === 1 || event.target.className === "edge");
    if (!sliding && +zoom.value === 1) return;
    let last = event;
    const move = (now) => {
      if (sliding) {
        split.value = (100 * (now.clientX - box.left)) / box.width;
        split.dispatchEvent(new Event("input"));
      } else {
        centre.x -= (now.clientX - last.clientX) / box.width / zoom.value;
        centre.y -= (now.clientY - last.clientY) / box.height / zoom.value;
        paint();
      }
      last = now;
    };
    event.preventDefault();
    view.focus();
    view.setPointerCapture(event.pointerId);
    view.addEventListener("pointermove", move);
    const stop = () => view.removeEventListener("pointermove", move);
    view.addEventListener("pointerup", stop, { once: true });
    view.addEventListener("pointercancel", stop, { once: true });
    move(event);
  });
  panes.addEventListener("dblclick", (event) => {
    const view = event.target.closest(".view");
    if (!view) return;
    const box = view.getBoundingClientRect();
    centre.x += ((event.clientX - box.left) / box.width - 0.5) / zoom.value;
    centre.y += ((event.clientY - box.top) / box.height - 0.5) / zoom.value;
    zoomTo(+zoom.value * 2);
  });
  panes.addEventListener("wheel", (event) => {
    if (!event.ctrlKey || !event.target.closest(".view")) return; // a pinch, too; without Ctrl the page scrolls
    event.preventDefault();
    zoomTo(+zoom.value * (event.deltaY < 0 ? 1.25 : 0.8));
  }, { passive: false });
  panes.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "+" || event.key === "=") zoomTo(+zoom.value + 1);
    else if (event.key === "-") zoomTo(+zoom.value - 1);
    else if (event.key === "0") zoomTo(1);
    else if (moves && +zoom.value > 1) {
      centre.x += (moves[0] * 0.1) / zoom.value;
      centre.y += (moves[1] * 0.1) / zoom.value;
      paint();
    } else return;
    event.preventDefault();
  });
  zoom.addEventListener("input", paint);
  for (const control of [sides.a, sides.b, picture, gain, ...modes]) control.addEventListener("change", show);
  for (const button of all("[data-compare-move]", root)) {
    button.addEventListener("click", () => choose((picture.selectedIndex + +button.dataset.compareMove + heads.length) % heads.length));
  }
  one("[data-swap]", root).addEventListener("click", () => {
    const before = row("a");
    sides.a.selectedIndex = row("b");
    sides.b.selectedIndex = before;
    for (const select of Object.values(sides)) select.dispatchEvent(new Event("change"));
  });
  function choose(place) {
    picture.selectedIndex = place;
    picture.dispatchEvent(new Event("change"));
  }
  new ResizeObserver(paint).observe(panes);

  // Scores image by image -----------------------------------------------------------------------------------------------
  const metric = one("[data-pairs-metric]", root);
  const plot = one("[data-pairs-plot]", root);
  const said = one("[data-pairs-count]", root);
  let scores = null;
  async function start() {
    try {
      await Promise.all([load(root.dataset.source), load(`${document.body.dataset.root}assets/plotly.js`)]);
    } catch { return; }
    scores = window.recbenchScores[root.dataset.board];
    if (!scores.metrics.length) return;
    scores.metrics.forEach((each) => metric.add(new Option(each.title, each.name)));
    state.bind(metric, "pairs");
    metric.addEventListener("change", draw);
    one("[data-pairs]", root).hidden = false;
    repaint.push(draw);
    draw();
    plot.on("plotly_click", ({ points }) => {
      const index = points[0].customdata;
      const place = heads.indexOf(`#${index}`);
      if (place < 0) {
        said.textContent = `The reconstructions of test image #${index} are not part of this report: filled points have theirs.`;
        return;
      }
      choose(place);
      root.scrollIntoView({ block: "start" });
    });
  }
  function draw() {
    if (!scores?.metrics.length) return;
    const { values, title, direction } = scores.metrics[metric.selectedIndex];
    const [first, second] = ["a", "b"].map((side) => values[sides[side].value]);
    if (!first || !second) {
      window.Plotly.purge(plot);
      said.textContent = "Choose two methods that have this score.";
      return;
    }
    const known = scores.images.map((_, place) => place).filter((place) => first[place] !== null && second[place] !== null);
    const better = known.filter((place) => (direction === "lower" ? first[place] < second[place] : first[place] > second[place])).length;
    const drawn = scores.images.length < scores.count ? ` (${scores.images.length} of ${scores.count} test images)` : "";
    said.textContent = direction === "lower" || direction === "higher" ? `A is better on ${better} of ${known.length} images${drawn}` : `${known.length} images${drawn}`;
    const here = heads[picture.selectedIndex];
    const trace = (keep, marker, name) => {
      const mine = known.filter((place) => keep(`#${scores.images[place]}`));
      return {
        type: "scatter", mode: "markers", name, marker,
        x: mine.map((place) => first[place]), y: mine.map((place) => second[place]), customdata: mine.map((place) => scores.images[place]),
        hovertemplate: "test image #%{customdata}<br>A %{x:.5g}, B %{y:.5g}<extra></extra>",
      };
    };
    const ends = known.flatMap((place) => [first[place], second[place]]).reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
    const axis = { gridcolor: colour("line"), linecolor: colour("strong"), zerolinecolor: colour("line"), automargin: true };
    const label = (side) => `${side.toUpperCase()}: ${title}`;
    window.Plotly.react(plot, [
      { type: "scatter", mode: "lines", x: ends, y: ends, line: { color: colour("muted"), width: 1, dash: "dot" }, hoverinfo: "skip", showlegend: false },
      trace((head) => !heads.includes(head), { color: "rgba(0,0,0,0)", size: 6, line: { color: colour("muted"), width: 1 } }, "without images here"),
      trace((head) => heads.includes(head) && head !== here, { color: colour("accent"), size: 8 }, "opens its image"),
      trace((head) => head === here, { color: colour("odd"), size: 13, symbol: "diamond" }, "shown above"),
    ], {
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("ink") },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 56, r: 12, t: 12, b: 48 },
      hoverlabel: { bgcolor: colour("raised"), bordercolor: colour("strong"), font: { color: colour("ink") } }, hovermode: "closest",
      legend: { orientation: "h", y: 1.12 }, xaxis: { ...axis, title: { text: label("a") } }, yaxis: { ...axis, title: { text: label("b") } },
    }, { responsive: true, typesetMath: false, displaylogo: false, displayModeBar: false });
    plot.dataset.drawn = "true";
  }
  show();
  new IntersectionObserver((entries, watch) => {
    if (entries.some((entry) => entry.isIntersecting)) { watch.disconnect(); start(); }
  }, { rootMargin: "300px" }).observe(root);
})();
