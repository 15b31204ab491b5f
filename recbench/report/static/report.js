// Behaviour of the pages: sorting, filtering, sheets of tiles, the lightbox, and plots. Works from file:// and loads nothing from the network.
"use strict";
(() => {
  const { all, one, state, picked, pinned, changed, keepMethods } = window.recbench;
  const styles = getComputedStyle(document.documentElement);
  const colour = (name) => styles.getPropertyValue(`--${name}`).trim();
  const repaint = [];

  // Colours ---------------------------------------------------------------------------------------------------------
  const toggle = one("[data-theme-toggle]");
  const themes = ["auto", "light", "dark"];
  const descriptions = { auto: "system setting", light: "light", dark: "dark" };
  function setTheme(theme) {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    one("[data-theme-name]").textContent = theme;
    toggle.setAttribute("aria-label", `Colours: ${descriptions[theme]}`);
    try { localStorage.setItem("recbench-theme", theme); } catch { /* storage may be forbidden */ }
    repaint.forEach((draw) => draw());
  }
  if (toggle) {
    const now = () => document.documentElement.dataset.theme ?? "auto";
    one("[data-theme-name]").textContent = now();
    toggle.setAttribute("aria-label", `Colours: ${descriptions[now()]}`);
    toggle.addEventListener("click", () => setTheme(themes[(themes.indexOf(now()) + 1) % themes.length]));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => repaint.forEach((draw) => draw()));
  }

  // Current section ----------------------------------------------------------------------------------------------------
  const links = new Map(all(".sections .links a").map((link) => [link.hash.slice(1), link]));
  if (links.size) {
    const seen = new Set();
    const watch = new IntersectionObserver((entries) => {
      for (const entry of entries) entry.isIntersecting ? seen.add(entry.target.id) : seen.delete(entry.target.id);
      const current = [...links.keys()].find((id) => seen.has(id));
      for (const [id, link] of links) {
        if (id === current) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
    }, { rootMargin: "-15% 0px -60% 0px" });
    for (const id of links.keys()) if (document.getElementById(id)) watch.observe(document.getElementById(id));
  }

  // The leaderboard: sorting, showing, filtering -----------------------------------------------------------------------
  const board = one("table[data-board]");
  const chosen = new Set(); // labels of the methods that pass the filter
  const filterers = [];
  const known = new Map(board ? [...board.tBodies[0].rows].map((row) => [row.dataset.method, row.dataset.slug]) : []);
  const isPinned = (row) => pinned.has(known.get(row.dataset.method));
  // Pinned rows first, otherwise in the given order; a row without a method, such as the test images, stays on top.
  const pinnedFirst = (rows) => [...rows].sort((a, b) => (!!a.dataset.method - !!b.dataset.method) || (isPinned(b) - isPinned(a)));
  if (board) {
    const body = board.tBodies[0];
    const rows = [...body.rows];
    const order = new Map(rows.map((row, place) => [row, place]));
    const value = (row, column) => row.cells[column].dataset.value;
    const compare = (a, b) => (Number.isNaN(+a) && a !== "inf" && a !== "-inf" ? a.localeCompare(b) : number(a) - number(b));
    const number = (text) => (text === "inf" ? Infinity : text === "-inf" ? -Infinity : +text);
    let sorted = rows;
    const place = () => {
      body.append(...pinnedFirst(sorted));
      rows.forEach((row) => row.classList.toggle("pinned", isPinned(row)));
    };
    const sortBy = (head, direction) => {
      const column = head.cellIndex;
      for (const other of board.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", direction);
      const sign = direction === "ascending" ? 1 : -1;
      sorted = [...rows].sort((a, b) => {
        const [left, right] = [value(a, column), value(b, column)];
        if (left === "" || right === "") return (left === "") - (right === "") || order.get(a) - order.get(b);
        return sign * compare(left, right) || order.get(a) - order.get(b);
      });
      place();
      board.classList.toggle("resorted", column !== 0 || direction !== "ascending" || pinned.size > 0);
      state.set("sort", `${column}-${direction}`, "0-ascending");
    };
    for (const button of all("[data-sort]", board)) {
      button.addEventListener("click", () => {
        const head = button.closest("th");
        const before = head.getAttribute("aria-sort");
        sortBy(head, before ? (before === "ascending" ? "descending" : "ascending") : button.dataset.sort);
      });
    }
    const [asked, direction] = state.get("sort").split("-");
    const head = board.tHead.rows[0].cells[asked || -1];
    if (head && one("[data-sort]", head) && ["ascending", "descending"].includes(direction)) sortBy(head, direction);
    for (const box of all("[data-show]")) {
      const show = () => board.classList.toggle(`with-${box.dataset.show}`, box.checked);
      state.bind(box, box.dataset.show);
      box.addEventListener("change", show);
      show();
    }
    const spread = one("[data-spread]");
    state.bind(spread, "values");
    const showSpread = () => {
      for (const name of ["spread", "confidence"]) board.classList.toggle(`with-${name}`, spread.value === name);
      for (const caption of all("[data-caption]")) if (caption.closest("#leaderboard")) caption.hidden = caption.dataset.caption !== spread.value;
    };
    spread.addEventListener("change", showSpread);
    showSpread();
    const text = one("[data-filter]");
    const family = one("[data-family]", text.closest(".controls"));
    state.bind(text, "filter", "input");
    if (family) state.bind(family, "family");
    const filter = () => {
      const either = text.value.toLowerCase().split("|").map((part) => part.split(/\s+/).filter(Boolean)).filter((words) => words.length);
      const matches = (row) => !either.length || either.some((words) => words.every((word) => row.dataset.words.includes(word)));
      chosen.clear();
      for (const row of rows) {
        const keep = isPinned(row) || ((!picked.size || picked.has(row.dataset.slug)) && matches(row) && (!family?.value || JSON.parse(row.dataset.families).includes(family.value)));
        row.hidden = !keep;
        if (keep) chosen.add(row.dataset.method);
      }
      one("[data-count]").textContent = chosen.size < rows.length ? `${chosen.size} of ${rows.length} methods` : "";
      for (const element of all("main [data-method]")) {
        if (!board.contains(element)) element.hidden = !chosen.has(element.dataset.method);
      }
      filterers.forEach((act) => act());
    };
    text.addEventListener("input", filter);
    family?.addEventListener("change", filter);
    changed.push(() => {
      place();
      board.classList.toggle("resorted", pinned.size > 0 || !one('th[aria-sort="ascending"].place', board));
      filter();
    });
    keepMethods();
    // A table that fits keeps its head below the page's own; one that is wider scrolls in a box of its own.
    const fit = () => {
      const box = board.closest(".scroll");
      box.classList.remove("fits");
      box.classList.toggle("fits", board.scrollWidth <= box.clientWidth);
    };
    new ResizeObserver(fit).observe(board.closest("section"));
    for (const control of all("#leaderboard .controls select, #leaderboard .controls input")) control.addEventListener("change", fit);
    const bar = one(".sections");
    new ResizeObserver(() => document.documentElement.style.setProperty("--bar", `${bar.offsetHeight}px`)).observe(bar);
  }

  // Sheets of tiles ----------------------------------------------------------------------------------------------------
  const sheets = all("[data-sheet]").map((root) => {
    const data = JSON.parse(one("[data-sheet-data]", root).textContent);
    const table = one("table", root);
    const sheet = { root, data, table, group: 0, error: false, gain: 4, measure: "" };
    const rows = [...table.tBodies[0].rows];
    const source = rows.map((row) => one(".tile", row).style.backgroundImage);
    sheet.tiles = rows.map((row) => all(".tile", row));
    sheet.source = source;
    sheet.caption = (row, column) =>
      `${data.rows[row].label}, ${data.noun} ${data.heads[column]}${data.rows[row].captions[column] ? `: ${data.rows[row].captions[column]}` : ""}`;
    sheet.paint = (tile, row, column, error) => {
      tile.style.setProperty("--x", column);
      const wrong = error && row > 0;
      tile.style.backgroundImage = wrong ? `${source[row]}, ${source[0]}` : source[row];
      tile.classList.toggle("error", wrong);
      tile.style.setProperty("--gain", sheet.gain);
    };
    const update = () => {
      const { columns, why } = data.groups[sheet.group];
      const reason = one("[data-why]", root);
      if (reason) reason.textContent = `${why}.`;
      [...table.tHead.rows[0].cells].slice(1).forEach((cell, place) => {
        cell.hidden = place >= columns.length;
        cell.textContent = columns[place] === undefined ? "" : data.heads[columns[place]];
      });
      sheet.tiles.forEach((tiles, row) => tiles.forEach((tile, place) => {
        tile.closest("td").hidden = place >= columns.length;
        if (place >= columns.length) return;
        sheet.paint(tile, row, columns[place], sheet.error);
        const score = one(".score", tile.parentElement);
        if (score) score.textContent = data.rows[row].scores[sheet.measure]?.[columns[place]] ?? "";
        tile.setAttribute("aria-label", sheet.caption(row, columns[place]));
      }));
    };
    const radios = (kind) => all(`input[type=radio][name$="-${kind}"]`, root);
    const gain = one("[data-gain] select", root);
    const measure = one("[data-measure]", root);
    const size = one("[data-size]", root);
    const read = () => {
      sheet.group = +(radios("group").find((radio) => radio.checked)?.value ?? 0);
      sheet.error = radios("view").some((radio) => radio.checked && radio.value === "error");
      if (gain) { sheet.gain = +gain.value; one("[data-gain]", root).hidden = !sheet.error; }
      sheet.measure = measure?.value ?? "";
      update();
    };
    state.bindRadios(radios("group"), `${data.name}.group`, (radio) => data.groups[radio.value].name);
    state.bindRadios(radios("view"), `${data.name}.view`);
    if (gain) state.bind(gain, `${data.name}.gain`);
    if (measure) state.bind(measure, `${data.name}.scores`);
    for (const control of [...radios("group"), ...radios("view"), gain, measure]) control?.addEventListener("change", read);
    if (size) {
      // Tiles take the width that there is, up to twice their standard size.
      const across = Math.floor((root.clientWidth - 190) / +root.style.getPropertyValue("--columns")) - 3;
      size.value = Math.max(+size.value, Math.min(across, 2 * size.value, 160));
      state.bind(size, `${data.name}.size`, "input");
      const resize = () => root.style.setProperty("--tile", `${size.value}px`);
      size.addEventListener("input", resize);
      resize();
    }
    if (radios("group").length + radios("view").length || measure) read();
    // A single tab stop; arrow keys move between tiles.
    const visible = () => [...table.tBodies[0].rows].filter((row) => !row.hidden).map((each) => ({ tiles: sheet.tiles[rows.indexOf(each)], row: rows.indexOf(each) }));
    sheet.step = (row, place, down, across) => {
      const shown = visible();
      const here = shown.findIndex((each) => each.row === row);
      const next = shown[Math.min(Math.max(here + down, 0), shown.length - 1)];
      const count = data.groups[sheet.group].columns.length;
      return { row: next.row, place: Math.min(Math.max(place + across, 0), count - 1) };
    };
    table.addEventListener("keydown", (event) => {
      const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
      const tile = event.target.closest(".tile");
      if (!tile || !moves[event.key]) return;
      event.preventDefault();
      const at = sheet.step(rows.indexOf(tile.closest("tr")), tile.closest("td").cellIndex - 1, ...moves[event.key]);
      focusOn(sheet.tiles[at.row][at.place]);
    });
    const focusOn = (tile) => {
      all('.tile[tabindex="0"]', table).forEach((other) => { other.tabIndex = -1; });
      tile.tabIndex = 0;
      tile.focus();
    };
    filterers.push(() => {
      table.tBodies[0].append(...pinnedFirst(rows));
      const first = one('.tile[tabindex="0"]', table);
      if (first?.closest("tr").hidden && visible().length) {
        first.tabIndex = -1;
        visible()[0].tiles[0].tabIndex = 0;
      }
    });
    table.addEventListener("click", (event) => {
      const tile = event.target.closest(".tile");
      if (tile) open(sheet, rows.indexOf(tile.closest("tr")), tile.closest("td").cellIndex - 1, tile);
    });
    return sheet;
  });

  filterers.forEach((act) => act());

  // The lightbox ---------------------------------------------------------------------------------------------------------
  const box = one("[data-lightbox]");
  let at = null;
  function open(sheet, row, place, opener) {
    at = { sheet, row, place, opener };
    show();
    if (!box.open) box.showModal();
  }
  function panel(name, row, column, error, size) {
    const { sheet } = at;
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.textContent = name;
    const tile = document.createElement("div");
    tile.className = "tile";
    for (const name of ["--w", "--h", "--n"]) tile.style.setProperty(name, sheet.root.style.getPropertyValue(name));
    tile.style.setProperty("--tile", `${size}px`);
    sheet.paint(tile, row, column, error);
    tile.setAttribute("role", "img");
    tile.setAttribute("aria-label", `${name}: ${sheet.caption(row, column)}`);
    figure.append(caption, tile);
    return figure;
  }
  function show() {
    const { sheet, row, place } = at;
    const column = sheet.data.groups[sheet.group].columns[place];
    one("[data-title]", box).textContent = `${sheet.data.rows[row].label} · ${sheet.data.noun} ${sheet.data.heads[column]}`;
    one("[data-caption]", box).textContent = sheet.data.rows[row].captions[column];
    state.set("open", [sheet.data.name, sheet.data.groups[sheet.group].name, row, place].join(":"));
    const width = +sheet.root.style.getPropertyValue("--w");
    const height = +sheet.root.style.getPropertyValue("--h");
    const compared = sheet.data.against && row > 0;
    const room = Math.min(innerWidth * 0.9, 1180);
    const across = compared ? (innerWidth < 700 ? 2 : 3) : 1;
    const largest = Math.min((room - 16 * across) / across, ((innerHeight - 230) / (compared && across === 2 ? 2 : 1)) * (width / height), 560);
    // A whole multiple of the image's own pixels if there is room for one.
    const size = largest > width ? Math.floor(largest / width) * width : Math.floor(largest);
    const panels = compared
      ? [panel("test image", 0, column, false, size), panel(sheet.data.noun, row, column, false, size), panel(`error × ${sheet.gain}`, row, column, true, size)]
      : [panel(sheet.data.rows[row].label, row, column, false, size)];
    one("[data-panels]", box).replaceChildren(...panels);
  }
  function move(down, across) {
    Object.assign(at, at.sheet.step(at.row, at.place, down, across));
    show();
  }
  if (box) {
    const moves = { up: [-1, 0], down: [1, 0], left: [0, -1], right: [0, 1] };
    for (const button of all("[data-move]", box)) button.addEventListener("click", () => move(...moves[button.dataset.move]));
    one("[data-close]", box).addEventListener("click", () => box.close());
    box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
    box.addEventListener("keydown", (event) => {
      const direction = event.key.startsWith("Arrow") && event.key.slice(5).toLowerCase();
      if (!direction) return;
      event.preventDefault();
      move(...moves[direction]);
    });
    box.addEventListener("close", () => {
      state.set("open", "");
      const tile = at.sheet.tiles[at.row][at.place];
      (tile.closest("tr").hidden ? at.opener : tile).focus();
    });
    addEventListener("resize", () => { if (box.open) show(); });
    const [name, group, row, place] = state.get("open").split(":");
    const asked = sheets.find((sheet) => sheet.data.name === name);
    const columns = asked?.data.groups[asked.group];
    if (columns && columns.name === group && asked.tiles[row]?.[place] && place < columns.columns.length) open(asked, +row, +place, asked.tiles[row][place]);
  }

  // Plots: plotly.js is loaded when the first plot is about to scroll into view ------------------------------------------------------------
  const loads = new Map();
  function load(source) {
    if (!loads.has(source)) {
      loads.set(source, new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = source;
        script.onload = resolve;
        script.onerror = () => reject(new Error(`failed to load ${source}`));
        document.head.append(script);
      }));
    }
    return loads.get(source);
  }
  function control(select, change, name) {
    const label = document.createElement("label");
    label.className = "field";
    const element = document.createElement("select");
    select.options.forEach((text, place) => element.add(new Option(text.length > 40 ? `${text.slice(0, 39)}…` : text, place)));
    label.append(`${select.label} `, element);
    state.bind(element, name);
    element.addEventListener("change", change);
    return { label, element };
  }
  async function draw(figure) {
    const plot = one("[data-plot]", figure);
    try {
      await Promise.all([load(figure.dataset.source), load(`${document.body.dataset.root}assets/plotly.js`)]);
    } catch (error) {
      one(".loading", plot).textContent = error.message;
      return;
    }
    const chart = window.recbenchCharts[figure.dataset.board][figure.dataset.chart];
    const bar = one("[data-controls]", figure);
    const selects = chart.selects.map((select, place) => control(select, () => paint(), `${figure.dataset.chart}.${place}`));
    for (const [place, { label }] of selects.entries()) if (chart.selects[place].options.length > 1) bar.append(label);
    const scale = chart.scales ? control({ label: "scale", options: ["automatic", "linear", "logarithmic"] }, () => paint(), `${figure.dataset.chart}.scale`) : null;
    if (scale) bar.append(scale.label);
    const labels = [...new Set(Object.values(chart.views).flatMap((view) => view.data.map((trace) => trace.meta)).filter(Boolean))];
    const light = control({ label: "highlight", options: ["all methods", ...labels] }, () => paint(), `${figure.dataset.chart}.highlight`);
    if (labels.length > 1) bar.append(light.label);
    one(".loading", plot)?.remove();
    const paint = () => {
      const view = chart.views[selects.map(({ element }) => element.value).join(",")];
      const narrow = plot.clientWidth < 640;
      const marked = +light.element.value ? labels[light.element.value - 1] : null;
      const data = view.data.filter((trace) => !trace.meta || !board || !known.has(trace.meta) || chosen.has(trace.meta)).map((trace) => {
        const faded = marked && trace.meta && trace.meta !== marked;
        const copy = { ...trace, opacity: faded ? 0.12 : 1, line: { ...trace.line }, hoverinfo: faded ? "skip" : trace.hoverinfo };
        if (trace.ink) copy.line.color = colour("ink");
        if (trace.muted) copy.line.color = colour("muted");
        if (marked && trace.meta === marked) copy.line.width = 3;
        return copy;
      });
      const axis = { gridcolor: colour("line"), linecolor: colour("strong"), zerolinecolor: colour("strong"), automargin: true, exponentformat: "power", minor: { showgrid: false } };
      const layout = {
        ...view.layout,
        font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("ink") },
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        margin: { l: 56, r: 12, t: 12, b: 48 },
        hoverlabel: { bgcolor: colour("raised"), bordercolor: colour("strong"), font: { color: colour("ink") } },
        showlegend: (view.layout.showlegend ?? data.length > 1) && !(narrow && labels.length > 10),
        legend: { font: { size: 11 }, itemsizing: "constant", tracegroupgap: 0, ...(narrow ? { orientation: "h", y: -0.22 } : {}) },
        hovermode: view.layout.hovermode ?? "closest",
        xaxis: { ...axis, ...view.layout.xaxis }, yaxis: { ...axis, ...view.layout.yaxis },
      };
      plot.style.height = view.layout.height ? `${view.layout.height}px` : "";
      if (scale && +scale.element.value) Object.assign(layout.yaxis, { type: ["linear", "log"][scale.element.value - 1], dtick: undefined });
      layout.yaxis.title = { ...layout.yaxis.title, standoff: 14 };
      window.Plotly.react(plot, data, layout, { responsive: true, typesetMath: false, displaylogo: false, displayModeBar: narrow ? false : "hover", modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"] });
      plot.dataset.drawn = "true";
    };
    paint();
    repaint.push(paint);
    filterers.push(paint);
  }
  Object.assign(window.recbench, { sheets, load, colour, repaint, filterers, chosen });
  const charts = all("[data-chart]");
  if (charts.length) {
    const near = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        near.unobserve(entry.target);
        draw(entry.target);
      }
    }, { rootMargin: "300px" });
    charts.forEach((chart) => near.observe(chart));
  }
})();
