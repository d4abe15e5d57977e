"use strict";
(() => {
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const touch = window.matchMedia("(pointer: coarse)").matches;
  const read = (element) => JSON.parse(element.textContent);
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const plotted = new Map();

  // A figure names the page's colours, var(--a), which Plotly cannot resolve: they change with the theme.
  const resolved = (value) => {
    if (typeof value === "string") return value.replace(/var\((--[a-z-]+)\)/g, (_, name) => colour(name));
    if (Array.isArray(value)) return value.map(resolved);
    if (value && typeof value === "object" && !ArrayBuffer.isView(value)) {
      return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, resolved(part)]));
    }
    return value;
  };

  const themed = (layout) => {
    const all = { ...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true };
    all.font = { family: "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", size: 13, color: colour("--text") };
    all.hoverlabel = { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--text") } };
    if (touch) all.dragmode = false; // a finger on a chart scrolls the page
    for (const key of Object.keys(all).filter((name) => /^[xy]axis/.test(name))) {
      all[key] = { gridcolor: colour("--grid"), linecolor: colour("--line"), zeroline: false, ...all[key] };
    }
    return all;
  };

  // One chart that cannot be drawn is a sentence in its place; the others, and the rest of the page, go on.
  const failed = (plot, error) => {
    plot.textContent = `This chart could not be drawn: ${error.message ?? error}`;
    plot.classList.add("failed");
  };
  const draw = (plot, figure) => {
    try {
      if (plot.classList.contains("failed")) plot.replaceChildren();
      plot.classList.remove("failed");
      plotted.set(plot, figure);
      const { data, layout } = resolved({ data: figure.data, layout: figure.layout });
      const drawn = Plotly.react(plot, data, themed(layout), { displayModeBar: false, responsive: true });
      drawn?.catch?.((error) => failed(plot, error));
    } catch (error) {
      failed(plot, error);
    }
  };
  const redraw = () => plotted.forEach((figure, plot) => draw(plot, figure));

  // The theme: the system's, until the button says otherwise.
  const button = document.getElementById("theme");
  const KEY = "parity-theme";
  const stored = () => { try { return sessionStorage.getItem(KEY); } catch { return null; } };
  const store = (theme) => { try { sessionStorage.setItem(KEY, theme); } catch { /* refused: until it is loaded again */ } };
  let chosen = ["light", "dark"].includes(stored()) ? stored() : null;
  const show = (theme) => {
    root.dataset.theme = theme;
    button.textContent = theme === "dark" ? "Light theme" : "Dark theme"; // what it does
    redraw();
  };
  const current = () => chosen ?? (dark.matches ? "dark" : "light");
  button.hidden = false;
  button.addEventListener("click", () => {
    chosen = current() === "dark" ? "light" : "dark";
    store(chosen);
    show(chosen);
  });
  dark.addEventListener("change", () => show(current()));
  window.addEventListener("beforeprint", () => show("light"));
  window.addEventListener("afterprint", () => show(current()));
  show(current());

  for (const figure of document.querySelectorAll("figure.chart")) {
    const source = figure.querySelector("script.figure");
    if (source && !figure.hidden) draw(figure.querySelector(".plot"), read(source));
  }

  for (const choice of document.querySelectorAll("[data-choice]")) {
    const select = choice.querySelector(".choose");
    const figures = [...choice.querySelectorAll("figure.chart")];
    const choose = () => {
      figures.forEach((figure, number) => {
        const plot = figure.querySelector(".plot");
        figure.hidden = number !== Number(select.value);
        if (!figure.hidden) draw(plot, read(figure.querySelector("script.figure")));
        else if (plotted.delete(plot)) Plotly.purge(plot);
      });
    };
    select.addEventListener("change", choose);
    if (select.value !== "0") choose(); // a browser keeps what was chosen when a page is loaded again
  }

  const histogram = (entry) => ({
    data: [{
      type: "bar", x: entry.edges.slice(1).map((end, i) => (end + entry.edges[i]) / 2), y: entry.counts,
      width: entry.edges.slice(1).map((end, i) => end - entry.edges[i]),
      marker: { color: "var(--a)", line: { width: 0.5, color: "var(--card)" } },
      hovertemplate: "%{x:.3e}: %{y:,} elements<extra></extra>",
    }],
    layout: {
      margin: { l: 56, r: 12, t: 8, b: 44 }, bargap: 0, showlegend: false,
      xaxis: { title: { text: "difference" }, exponentformat: "e", nticks: 4, tickangle: 0, showgrid: false },
      yaxis: {
        // From below 1: a bin of a single element is to be seen.
        title: { text: "elements" }, type: "log", dtick: 1, range: [-0.4, Math.log10(Math.max(...entry.counts)) + 0.15],
      },
    },
  });
  const element = (tag, text, attributes = {}) => Object.assign(document.createElement(tag), { textContent: text }, attributes);

  for (const explorer of document.querySelectorAll("[data-explorer]")) {
    const entries = read(explorer.querySelector("script.entries"));
    const select = explorer.querySelector(".choose");
    const columns = read(explorer.querySelector("script.columns"));
    const part = (name) => explorer.querySelector(`.detail-${name}`);
    const explain = (number) => {
      part("cell").hidden = true;
      const entry = entries[number];
      part("title").textContent = entry.label;
      part("facts").replaceChildren(...entry.facts.map(([name, value]) => {
        const row = document.createElement("div");
        row.append(element("dt", name), element("dd", value));
        return row;
      }));
      part("note").textContent = entry.note;
      part("note").hidden = !entry.note;
      const rows = entry.rows.map((cells) => {
        const row = document.createElement("tr");
        row.append(...cells.map((cell, i) => element(i ? "td" : "th", cell, i ? {} : { scope: "row" })));
        return row;
      });
      part("table").querySelector("tbody").replaceChildren(...rows);
      part("table").hidden = !rows.length;
      part("chart").hidden = !entry.counts.length;
      if (entry.counts.length) {
        const plot = part("chart").querySelector(".plot");
        plot.setAttribute("aria-label", `Histogram of the differences of ${entry.label}`);
        draw(plot, histogram(entry));
      }
    };
    select.addEventListener("change", () => explain(Number(select.value)));
    const choose = (number) => {
      select.value = String(number);
      explain(number);
      explorer.querySelector(".detail").scrollIntoView({ block: "start" });
    };
    const map = explorer.querySelector(".chart .plot");
    map.on?.("plotly_click", (event) => {
      const [point] = event.points;
      const [row, column] = point.pointNumber;
      choose(row);
      const { shown } = entries[row];
      if (columns[column] !== shown) {
        part("cell").textContent = `You chose ${columns[column]}: ${point.customdata}. The elements here are of ${shown}.`;
        part("cell").hidden = false;
      }
      Plotly.Fx.unhover(map);
    });
    // The names beside the heat map too: Plotly draws them, and lets no click through to them by itself.
    map.addEventListener("click", (event) => {
      const row = [...map.querySelectorAll(".ytick text")].indexOf(event.target.closest("text"));
      if (row >= 0) choose(row);
    });
    explain(Number(select.value));
  }

  for (const code of document.querySelectorAll(".code")) {
    const copy = code.querySelector(".copy");
    const said = code.querySelector(".copied");
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      const text = code.querySelector("code");
      try {
        await navigator.clipboard.writeText(text.textContent);
        said.textContent = "copied";
      } catch {
        getSelection().selectAllChildren(text); // where a page from a file may not write to the clipboard
        said.textContent = "selected: copy it with the keyboard";
      }
    });
  }
})();
