"use strict";
// Confusion matrices, which are drawn, and lists of classes, which are sorted and filtered. Names become text, never markup.
for (const article of document.querySelectorAll("article[data-labels]")) {
  const data = JSON.parse(article.querySelector("script[type='application/json']").textContent);
  drawConfusion(article, data);
  listClasses(article, data);
}

function drawConfusion(article, { labels, counts, cells }) {
  const canvas = article.querySelector("canvas"), tip = article.querySelector(".tip");
  if (!canvas) return;
  const size = labels.length, at = new Map(cells.map(([row, column, n]) => [row * size + column, n]));
  const view = { x: 0, y: 0, shown: size }; // the corner, and how many classes an edge shows
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const colour = name => getComputedStyle(canvas).getPropertyValue(name).trim();

  function draw() {
    const edge = Math.round(canvas.clientWidth * devicePixelRatio), context = canvas.getContext("2d");
    canvas.width = canvas.height = edge;
    const probe = document.createElement("i");
    article.append(probe);
    const [right, wrong, ground] = ["--right", "--wrong", "--well"].map(name => {
      probe.style.color = `var(${name})`;
      return getComputedStyle(probe).color;
    });
    probe.remove();
    context.fillStyle = ground;
    context.fillRect(0, 0, edge, edge);
    const step = edge / view.shown, least = Math.max(step - (step > 6 ? 1 : 0), 2 * devicePixelRatio);
    for (const [row, column, n] of cells) {
      const x = (column - view.x) * step, y = (row - view.y) * step;
      if (x < -step || y < -step || x > edge || y > edge) continue;
      context.globalAlpha = 0.2 + 0.8 * n / counts[row];
      context.fillStyle = row === column ? right : wrong;
      context.fillRect(x, y, least, least);
      if (step > 26 * devicePixelRatio) {
        context.globalAlpha = 1;
        context.fillStyle = ground;
        context.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
        context.textAlign = "center";
        context.fillText(n, x + step / 2, y + step / 2 + 4 * devicePixelRatio);
      }
    }
    context.globalAlpha = 1;
  }

  function cellAt(event) {
    const box = canvas.getBoundingClientRect(), step = box.width / view.shown;
    const [column, row] = [[event.clientX - box.left, view.x], [event.clientY - box.top, view.y]].map(
      ([place, start]) => clamp(Math.floor(place / step + start), 0, size - 1));
    return [row, column];
  }

  function zoom(factor, row, column) {
    const before = view.shown;
    view.shown = clamp(before * factor, Math.min(size, 5), size);
    const share = view.shown / before;
    move(column + 0.5 - (column + 0.5 - view.x) * share, row + 0.5 - (row + 0.5 - view.y) * share);
  }

  function move(x, y) {
    [view.x, view.y] = [x, y].map(value => clamp(value, 0, size - view.shown));
    draw();
  }

  function say(row, column) {
    const n = at.get(row * size + column) || 0;
    tip.textContent = row === column
      ? `${labels[row]}: ${n} of ${counts[row]} right`
      : `${labels[row]} taken for ${labels[column]}: ${n} of ${counts[row]}`;
  }

  let from = null;
  canvas.addEventListener("pointerdown", event => { from = [event.clientX, event.clientY, view.x, view.y]; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointerup", () => { from = null; });
  canvas.addEventListener("pointermove", event => {
    if (from) {
      const step = canvas.clientWidth / view.shown;
      move(from[2] - (event.clientX - from[0]) / step, from[3] - (event.clientY - from[1]) / step);
    }
    say(...cellAt(event));
  });
  canvas.addEventListener("wheel", event => { event.preventDefault(); zoom(event.deltaY > 0 ? 1.25 : 0.8, ...cellAt(event)); }, { passive: false });
  for (const button of article.querySelectorAll("[data-zoom]"))
    button.addEventListener("click", () => zoom(Number(button.dataset.zoom), view.y + view.shown / 2, view.x + view.shown / 2));
  canvas.addEventListener("keydown", event => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!way) return;
    event.preventDefault();
    move(view.x + way[0] * view.shown / 5, view.y + way[1] * view.shown / 5);
  });
  new ResizeObserver(draw).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}

function listClasses(article, { labels, counts, recalls, lows, highs }) {
  const list = article.querySelector(".classes"), filter = article.querySelector("input"), order = article.querySelector("select");
  const worst = index => recalls[index] === null ? 2 : recalls[index];
  const orders = {
    lowest: (a, b) => worst(a) - worst(b) || a - b,
    highest: (a, b) => (recalls[b] ?? -1) - (recalls[a] ?? -1) || a - b,
    name: (a, b) => labels[a].localeCompare(labels[b]) || a - b,
    images: (a, b) => counts[b] - counts[a] || a - b,
    index: (a, b) => a - b,
  };
  function element(kind, name, text) {
    const made = document.createElement(kind);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  }
  function row(index) {
    const item = element("li"), track = element("span", "track"), has = recalls[index] !== null;
    const name = element("span", "name", labels[index]);
    name.title = labels[index];
    if (has) {
      track.append(element("i"), element("b"));
      track.firstChild.style.width = `${100 * recalls[index]}%`;
      track.lastChild.style.left = `${100 * lows[index]}%`;
      track.lastChild.style.width = `${100 * (highs[index] - lows[index])}%`;
    }
    item.append(name, track, element("span", "number", has ? `${(100 * recalls[index]).toFixed(1)} % of ${counts[index]}` : "no image"));
    return item;
  }
  function fill() {
    const wanted = filter.value.trim().toLowerCase();
    const shown = labels.map((_, index) => index).filter(index => labels[index].toLowerCase().includes(wanted));
    list.replaceChildren(...shown.sort(orders[order.value]).map(row));
  }
  filter.addEventListener("input", fill);
  order.addEventListener("change", fill);
  fill();
}
