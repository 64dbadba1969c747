"use strict";
// What the page does: shows the figures, moves the graph, and tells about the operator that was chosen.
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const facts = read("facts"), plots = read("plots");
  const sides = new Map(facts.targets.map((side) => [side.target, side]));
  const views = new Map([...document.querySelectorAll("svg.graph")].map((svg) => [svg.dataset.target, new View(svg)]));
  let shown = views.keys().next().value, models = null;

  // -- the graph

  function View(svg) {
    const whole = svg.viewBox.baseVal, full = [whole.x, whole.y, whole.width, whole.height];
    let box = full.slice(), drag = null;
    const size = () => svg.getBoundingClientRect();
    const set = (x, y, width) => {
      const { width: w, height: h } = size();
      box = [x, y, width, width * (h || 1) / (w || 1)];
      svg.setAttribute("viewBox", box.join(" "));
    };
    this.svg = svg;
    this.zoom = (factor, at) => {
      const [px, py] = at || [box[0] + box[2] / 2, box[1] + box[3] / 2];
      const width = Math.min(Math.max(box[2] * factor, 150), 4 * Math.max(full[2], full[3] * box[2] / box[3]));
      const by = width / box[2];
      set(px - (px - box[0]) * by, py - (py - box[1]) * by, width);
    };
    this.all = () => {
      const { width: w, height: h } = size();
      const width = Math.max(full[2], full[3] * (w || 1) / (h || 1));
      set((full[2] - width) / 2, (full[3] - width * (h || 1) / (w || 1)) / 2, width);
    };
    this.top = () => { const width = size().width || 800; set((full[2] - width) / 2, 0, width); };
    this.show = (node) => {
      const { e: x, f: y } = node.transform.baseVal.consolidate().matrix;
      const inside = x > box[0] && x + 190 < box[0] + box[2] && y > box[1] && y + 46 < box[1] + box[3];
      if (!inside) set(x + 95 - box[2] / 2, y + 23 - box[3] / 2, box[2]);
    };
    const point = (event) => {
      const { left, top, width, height } = size();
      return [box[0] + (event.clientX - left) / width * box[2], box[1] + (event.clientY - top) / height * box[3]];
    };
    svg.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.zoom(event.deltaY > 0 ? 1.2 : 1 / 1.2, point(event));
    }, { passive: false });
    svg.addEventListener("pointerdown", (event) => { drag = { at: [event.clientX, event.clientY], box: box.slice(), moved: false }; });
    svg.addEventListener("pointermove", (event) => {
      if (!drag) return;
      const dx = event.clientX - drag.at[0], dy = event.clientY - drag.at[1];
      if (!drag.moved && Math.hypot(dx, dy) < 4) return; // a click that trembles
      if (!drag.moved) svg.setPointerCapture(event.pointerId);
      drag.moved = true;
      const scale = box[2] / size().width;
      set(drag.box[0] - dx * scale, drag.box[1] - dy * scale, box[2]);
    });
    const end = () => { if (drag && drag.moved) svg.dataset.dragged = "1"; drag = null; };
    svg.addEventListener("pointerup", end);
    svg.addEventListener("pointercancel", end);
    svg.addEventListener("click", (event) => {
      if (svg.dataset.dragged) { delete svg.dataset.dragged; return; }
      const node = event.target.closest("[data-node]");
      if (node) choose(svg.dataset.target, Number(node.dataset.node));
    });
    svg.addEventListener("keydown", (event) => {
      const node = event.target.closest("[data-node]");
      if (node && (event.key === "Enter" || event.key === " ")) {
        event.preventDefault();
        choose(svg.dataset.target, Number(node.dataset.node));
      }
    });
    svg.addEventListener("focusin", (event) => { if (event.target.matches(":focus-visible")) this.show(event.target.closest("[data-node]")); });
  }

  function show(target) {
    const first = !views.get(target).seen;
    shown = target;
    for (const [name, view] of views) view.svg.toggleAttribute("hidden", name !== target);
    for (const radio of document.getElementsByName("target")) radio.checked = radio.value === target;
    if (first) views.get(target).top();
    views.get(target).seen = true;
  }

  // -- the operator that was chosen

  function choose(target, number) {
    const node = sides.get(target).nodes[number], view = views.get(target);
    show(target);
    for (const other of document.querySelectorAll(".node.chosen")) other.classList.remove("chosen");
    const mark = view.svg.querySelector(`[data-node="${number}"]`);
    mark.classList.add("chosen");
    view.show(mark);
    document.getElementById("nothing").hidden = true;
    document.getElementById("chosen").replaceChildren(...result(target, number, node));
    document.getElementById("more").replaceChildren(...rest(target, node));
    details(node.layer === null ? null : facts.layers[node.layer]);
    document.getElementById("details").scrollTop = 0;
  }

  // Text only: a name is never read as HTML.
  const make = (tag, text, ...children) => {
    const element = document.createElement(tag);
    if (text !== undefined && text !== null) element.textContent = text;
    element.append(...children);
    return element;
  };
  const list = (pairs) => make("dl", null, ...pairs.filter(([, text]) => text !== "" && text !== null && text !== undefined)
    .flatMap(([name, text]) => [make("dt", name), text instanceof Node ? make("dd", null, text) : make("dd", text)]));
  const link = (target, number, text) => {
    const button = make("button", text);
    button.type = "button";
    button.className = "link";
    button.dataset.go = `${target}:${number}`;
    return button;
  };
  const percent = (share) => `${(100 * share).toFixed(4)} %`;
  const type = (value) => `${value.dtype}[${value.shape.map((size, axis) => size + (value.open.includes(axis) ? "?" : "")).join(",")}]`;
  const quant = (value) => {
    const q = value.quant;
    if (!q) return "";
    const scale = Array.isArray(q.scale) ? `${q.scale[0]} to ${q.scale[1]}` : q.scale;
    const zero = Array.isArray(q.zero_point) ? `${q.zero_point[0]} to ${q.zero_point.at(-1)}` : q.zero_point;
    return `scale ${scale}, zero point ${zero}` + (q.axis === null ? "" : `, ${q.count} along axis ${q.axis}`);
  };
  const operand = (target, value) => {
    if (value === null) return make("span", "left out");
    const text = `${value.tensor}: ${type(value)}`;
    const line = make("span", null);
    line.append(typeof value.from === "number" ? link(target, value.from, text) : text);
    const more = [quant(value), value.bytes === undefined ? "" : `constant, ${value.bytes.toLocaleString("en")} bytes`,
      typeof value.from === "string" ? value.from : ""].filter(Boolean);
    for (const one of more) line.append(make("br"), one);
    return line;
  };

  function result(target, number, node) {
    const c = node.compared, side = sides.get(target);
    const parts = [make("h3", `${node.op} ${node.name}`)];
    const at = node.measured_at;
    const how = c ? [["largest difference", `${c.lsb} LSB`], ["differ", `${c.differ} of ${c.size} elements, ${percent(1 - c.equal)}`],
      ["SQNR", c.sqnr === null ? "bit-equal" : `${c.sqnr} dB`], ["reason", c.reason]]
      : [["compared", at === null ? "not at all" : link(target, at, `at ${side.nodes[at].op} ${side.nodes[at].name}`)]];
    parts.push(list([["target", `${target}, operator ${number}`], ...how, ["float island", node.island ? "yes" : ""]]));
    parts.push(make("h3", "Source"), list([["module", node.module || "<top>"], ["PyTorch", node.torch], ["line", node.source]]));
    if (node.text) parts.push(make("pre", node.text));
    return parts;
  }

  function rest(target, node) {
    const parts = node.layer === null ? [] : layer(facts.layers[node.layer]);
    parts.push(make("h3", "Result"), list(node.outputs.flatMap((v) => [["type", type(v)], ["quantization", quant(v)]])));
    parts.push(make("h3", "Operands"), list(node.inputs.map((v, i) => [`${i}`, operand(target, v)])));
    const options = Object.entries(node.options);
    if (options.length) parts.push(make("h3", "Options"), list(options.map(([k, v]) => [k, String(v)])));
    return parts;
  }

  function layer(of) {
    const parts = [make("h3", "Weight"), list([["tensor", of.name], ["type", `${of.type}[${of.shape.join(",")}]`],
      ["channels", `${of.channels}, ${of.dead} dead, ${of.coarse} with less than 5 bits`],
      ["largest bias", of.bias ? `${percent(of.bias.largest)} of int32` : ""], ["largest sum", of.bias ? `${percent(of.bias.sum)} of int32` : ""]])];
    const doubts = [...of.doubts, ...of.findings.map((f) => `${f.severity} ${f.code}: ${f.message}`)];
    if (doubts.length) parts.push(make("ul", null, ...doubts.map((text) => make("li", text))));
    return parts;
  }

  function details(of) {
    const fill = (name, data, useful) => {
      document.getElementById(`plot-${name}`).hidden = !useful;
      if (models && useful) models.get_model_by_name(`${name}-data`).data = data;
    };
    const { start, width, counts } = of ? of.histogram : { start: 0, width: 1, counts: [] };
    const edges = counts.map((_, i) => start + i * width), scales = of ? of.scales : [];
    fill("histogram", { left: edges, right: edges.map((x) => x + width), count: counts }, counts.length > 0);
    fill("scales", { channel: scales.map((_, i) => i), scale: scales, peak: scales.map((_, i) => of.peaks[i] ?? null) }, scales.length > 1);
  }

  // -- the figures

  async function figures() {
    const roots = Object.fromEntries(Object.entries(plots.roots).map(([name, id]) => [id, `plot-${name}`]));
    const hidden = ["plot-histogram", "plot-scales"].map((id) => document.getElementById(id));
    for (const element of hidden) element.hidden = false; // a figure without a size would not be laid out
    await Bokeh.embed.embed_items({ report: plots.document }, [{ docid: "report", roots, root_ids: Object.keys(roots) }]);
    models = Bokeh.documents.at(-1);
    for (const element of hidden) element.hidden = true;
    for (const name of [...[...sides.keys()].map((target) => `tensors-${target}`), "ranges-data"]) {
      const source = models.get_model_by_name(name);
      if (source) source.selected.change.connect(() => { // a bar or a point is an operator, too
        const [row] = source.selected.indices, { target, node } = source.data;
        if (row !== undefined && node[row] !== null) choose(target[row], node[row]);
      });
    }
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", paint);
    paint();
    document.documentElement.dataset.ready = "1";
  }

  function paint() {
    const style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const ink = colour("ink"), faint = colour("faint"), line = colour("line"), ground = colour("ground");
    for (const figure of models.roots()) {
      figure.setv({ background_fill_color: ground, border_fill_color: ground, outline_line_color: line });
      for (const part of [...figure.above, ...figure.below, ...figure.left, ...figure.center]) {
        const has = (name) => name in part.properties;
        for (const [name, value] of [["text_color", ink], ["axis_label_text_color", ink], ["major_label_text_color", ink], ["label_text_color", ink],
          ["axis_line_color", faint], ["major_tick_line_color", faint], ["minor_tick_line_color", faint], ["grid_line_color", line],
          ["background_fill_color", ground], ["border_line_color", line]]) {
          if (has(name)) part.setv({ [name]: value });
        }
      }
      if (figure.title) figure.title.setv({ text_color: ink });
    }
  }

  // -- tables

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = make("button", head.textContent);
      button.type = "button";
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => row.cells[column].textContent.trim();
        const value = (text) => parseFloat(text.replace(/,/g, ""));
        const rows = [...table.tBodies[0].rows].sort((a, b) => {
          const [x, y] = [key(a), key(b)], [n, m] = [value(x), value(y)];
          return (Number.isNaN(n) || Number.isNaN(m) ? x.localeCompare(y) : n - m) * (down ? -1 : 1);
        });
        table.tBodies[0].append(...rows);
      });
    });
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-go]"), zoom = event.target.closest("[data-zoom]");
    if (button) {
      const [target, number] = button.dataset.go.split(":");
      choose(target, Number(number));
      document.getElementById("graphs").scrollIntoView({ block: "start" });
    } else if (zoom && views.size) {
      const view = views.get(shown);
      ({ in: () => view.zoom(1 / 1.4), out: () => view.zoom(1.4), all: view.all, top: view.top })[zoom.dataset.zoom]();
    }
  });
  for (const radio of document.getElementsByName("target")) radio.addEventListener("change", () => show(radio.value));
  if (views.size) show(shown);
  figures();
})();
