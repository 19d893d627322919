// A section holds the images of one label, or the unknown, or the unreadable. Its cards are drawn in chunks of whole
// rows; a chunk keeps its height, is filled when it comes near the window and emptied when it leaves it.
{
  const PREVIEW_ROWS = 3; // of a section when there are several
  const CHUNK_ROWS = 6;
  const FAILURES = 200; // unreadable files listed at a time
  const CARD_WIDTH = 138; // minimum, in CSS pixels
  const NARROW_CARD_WIDTH = 100;
  const CAPTION = 28; // height below an image; report.css has its parts
  const NEAREST = 16; // height of the line with the nearest label

  const $ = (id) => document.getElementById(id);
  const fraction = (value, digits) => (value === null ? "–" : value.toFixed(digits));

  // Reading

  function readResults() {
    const items = [];
    for (let number = 0, block; (block = $(`results-${number}`)); number++) {
      for (const item of JSON.parse(block.textContent)) items.push(item);
      block.remove();
    }
    return items;
  }

  function labelScore([label, score, probability, group = ""]) {
    return { label: shown(label), score, probability, group: shown(group) };
  }

  function prepare(item) {
    item.text = shown(item.path);
    item.searched = item.text.toLowerCase();
    if ("error" in item) return item;
    item.predictions = item.predictions.map(labelScore);
    item.others = item.others.map(labelScore);
    [item.nearest] = item.predictions;
    return item;
  }

  const ascending = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  const byDoubt = (a, b) =>
    ascending(a.nearest.probability, b.nearest.probability) || ascending(a.margin ?? Infinity, b.margin ?? Infinity);

  function sectionsOf(items) {
    const labels = new Map();
    const unknown = { kind: "unknown", name: "unknown", note: "match none of the labels", items: [] };
    const unreadable = { kind: "unreadable", name: "unreadable", note: "these files could not be read", items: [] };
    let thumbnail = 0;
    for (const item of items) {
      if ("error" in item) {
        unreadable.items.push(item);
        continue;
      }
      item.thumbnail = thumbnail++;
      if (item.rejected) unknown.items.push(item);
      else {
        const { label, group } = item.nearest;
        if (!labels.has(label)) labels.set(label, { kind: "label", name: label, note: group, items: [] });
        labels.get(label).items.push(item);
      }
    }
    const { compare } = new Intl.Collator("en", { numeric: true });
    const sections = [...labels.values()].sort((a, b) => compare(a.note, b.note) || compare(a.name, b.name));
    for (const section of [...sections, unknown]) section.items.sort(byDoubt);
    return [...sections, unknown, unreadable].filter((section) => section.items.length);
  }

  // State

  const items = readResults().map(prepare);
  const sections = sectionsOf(items);
  const filters = { section: null, text: "", probability: [null, null], score: [null, null] };
  let visible = []; // the sections on the page; `shown` holds the items that pass the filters
  let columns = 1;

  const bounded = () => [...filters.probability, ...filters.score].some((bound) => bound !== null);
  const filtered = () => filters.section !== null || filters.text !== "" || bounded();
  const within = (value, [from, to]) => (from === null || value >= from) && (to === null || value <= to);

  function passes(item) {
    if (filters.text && !item.searched.includes(filters.text)) return false;
    if (!bounded()) return true;
    return "nearest" in item && within(item.nearest.probability, filters.probability) && within(item.nearest.score, filters.score);
  }

  const isOpen = (section) => section.expanded || visible.length === 1;
  const drawn = (section) => (isOpen(section) ? section.shown.length : Math.min(section.shown.length, PREVIEW_ROWS * columns));

  // Gallery

  const observer = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) fill(target);
        else if (!target.contains(document.activeElement)) target.replaceChildren();
      }
    },
    { rootMargin: "600px 0px" },
  );

  function measure() {
    const { width } = $("sections").getBoundingClientRect();
    const gap = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--gap"));
    columns = Math.max(1, Math.floor((width + gap) / ((width < 560 ? NARROW_CARD_WIDTH : CARD_WIDTH) + gap)));
    const card = (width - gap * (columns - 1)) / columns;
    const style = $("sections").style;
    style.setProperty("--columns", columns);
    style.setProperty("--card", `${card}px`);
    return { card, gap };
  }

  function draw() {
    const size = measure();
    observer.disconnect();
    for (const section of sections) section.shown = section.items.filter(passes);
    visible = sections.filter((section) => section.shown.length && (filters.section ?? section) === section);
    $("sections").replaceChildren(...visible.map((section) => drawSection(section, size)));
    drawCounts();
  }

  function drawSection(section, size) {
    const place = element("section");
    place.dataset.kind = section.kind;
    const title = element("header", "title");
    const name = element("h2", "", section.name);
    name.id = `section-${sections.indexOf(section)}`;
    name.title = section.name;
    place.setAttribute("aria-labelledby", name.id);
    title.append(name, element("span", "number", whole(section.shown.length)), element("span", "note", section.note));
    place.append(title);
    section.body = element("div");
    place.append(section.body);
    section.fewer = title.appendChild(button("Show fewer", () => expand(section, false)));
    section.size = size;
    drawBody(section);
    return place;
  }

  function drawBody(section) {
    section.body.replaceChildren();
    section.fewer.hidden = !section.expanded || visible.length === 1;
    if (section.kind === "unreadable") return drawFailures(section, 0);
    const count = drawn(section);
    const chunk = CHUNK_ROWS * columns;
    for (let from = 0; from < count; from += chunk) section.body.append(gridOf(section, from, Math.min(from + chunk, count)));
    const rest = section.shown.length - count;
    if (rest) {
      const more = section.body.appendChild(button(`Show ${whole(rest)} more`, () => expand(section, true, count)));
      more.classList.add("more");
      more.setAttribute("aria-label", `Show ${whole(rest)} more of ${section.name}`);
    }
  }

  function gridOf(section, from, to) {
    const grid = element("ul", "grid");
    const { card, gap } = section.size;
    const row = card + CAPTION + (section.kind === "unknown" ? NEAREST : 0);
    const rows = Math.ceil((to - from) / columns);
    grid.style.setProperty("--row", `${row}px`);
    grid.style.height = `${rows * row + (rows - 1) * gap}px`;
    Object.assign(grid, { section, from, to });
    observer.observe(grid);
    return grid;
  }

  function fill(grid) {
    if (grid.firstChild) return;
    for (let index = grid.from; index < grid.to; index++) {
      const entry = element("li");
      entry.append(cardOf(grid.section, index));
      grid.append(entry);
    }
    grid.querySelector(".card").tabIndex = 0; // Tab moves between chunks, arrows between cards
  }

  function cardOf(section, index) {
    const item = section.shown[index];
    const card = element("button", "card");
    card.type = "button";
    card.tabIndex = -1;
    card.title = item.text;
    Object.assign(card, { section, index });
    const frame = element("span", "frame");
    showThumbnail(frame, item, "");
    const caption = element("span", "caption");
    caption.append(
      element("span", "", item.text.slice(item.text.lastIndexOf("/") + 1)),
      element("span", "number", fraction(item.nearest.probability, 3)),
    );
    card.append(frame, barOf(item.nearest.probability), caption);
    if (item.rejected) card.append(element("span", "file", `nearest: ${item.nearest.label}`));
    return card;
  }

  function barOf(share) {
    const bar = element("span", "bar");
    bar.style.setProperty("--share", share ?? 0);
    return bar;
  }

  function expand(section, open, focus) {
    section.expanded = open;
    drawBody(section);
    if (open) focusCard(section, focus);
    else {
      section.body.parentElement.scrollIntoView({ block: "nearest" });
      focusCard(section, 0);
    }
  }

  function drawFailures(section, from) {
    const list = section.body.appendChild(element("ul", "failures"));
    for (const item of section.shown.slice(from, from + FAILURES)) {
      const row = list.appendChild(element("li"));
      row.append(element("span", "path", item.text), element("span", "reason", shown(item.error)));
    }
    const rest = section.shown.length - from - FAILURES;
    if (rest <= 0) return;
    const more = button(`Show ${whole(Math.min(rest, FAILURES))} more of ${whole(rest)}`, () => {
      more.remove();
      drawFailures(section, from + FAILURES);
    });
    section.body.append(more);
  }

  // Thumbnails: those that the browser has not read yet are tried again until it has

  let awaited = [];

  function showThumbnail(frame, item, alt) {
    frame.item = item;
    const block = $(`thumbnail-${item.thumbnail}`);
    const loading = document.readyState === "loading";
    if (loading && !(block && block.nextElementSibling)) {
      if (!awaited.length) setTimeout(showAwaited, 100);
      awaited.push([frame, item, alt]);
      return;
    }
    const source = block && JSON.parse(block.textContent);
    if (!source) return frame.replaceChildren("no preview");
    const image = element("img");
    image.alt = alt;
    image.decoding = "async";
    image.addEventListener("error", () => image.replaceWith("no preview"));
    image.src = source;
    frame.replaceChildren(image);
  }

  function showAwaited() {
    const asked = awaited;
    awaited = [];
    for (const [frame, item, alt] of asked) {
      if (frame.isConnected && frame.item === item) showThumbnail(frame, item, alt);
    }
  }

  // Labels

  const choices = []; // entries in the list of labels: { section, button, number, entry }; the first stands for all

  // The unknown and the unreadable come before the labels, of which there may be a thousand
  function buildLabels() {
    const labels = sections.filter(({ kind }) => kind === "label");
    const others = sections.filter(({ kind }) => kind !== "label");
    addChoice(null, "All");
    for (const section of [...others, ...labels]) addChoice(section, section.name, section.kind === "label" ? section.note : "");
    if (labels.length) choices.at(-labels.length).entry.className = "apart";
  }

  function addChoice(section, text, group = "") {
    const entry = element("li");
    const choice = element("button");
    const number = element("span", "number");
    choice.type = "button";
    choice.title = group ? `${text} (${group})` : text;
    choice.tabIndex = section ? -1 : 0;
    choice.append(element("span", "name", text), number);
    choice.addEventListener("click", () => choose(section));
    entry.append(choice);
    $("labels").append(entry);
    choices.push({ section, button: choice, number, entry, searched: `${text} ${group}`.toLowerCase() });
  }

  function choose(section) {
    filters.section = section;
    $("panel").classList.remove("open");
    $("panel-toggle").setAttribute("aria-expanded", "false");
    draw();
    window.scrollTo(0, section ? $("sections").offsetTop - $("sections").parentElement.offsetTop : 0);
  }

  function drawCounts() {
    const total = sections.reduce((sum, section) => sum + section.shown.length, 0);
    for (const { section, button: choice, number } of choices) {
      const count = section ? section.shown.length : total;
      number.textContent = whole(count);
      choice.classList.toggle("none", !count);
      choice.setAttribute("aria-pressed", filters.section === section);
    }
    const count = visible.reduce((sum, section) => sum + section.shown.length, 0);
    $("count").textContent = filtered() ? `${whole(count)} of ${plural(items.length, "image")}` : plural(items.length, "image");
    $("empty").hidden = count > 0;
    $("empty").textContent = items.length ? "No image matches these filters." : "This run has no images.";
    $("reset").disabled = !filtered();
  }

  function searchLabels() {
    const text = $("label-search").value.trim().toLowerCase();
    for (const { section, entry, searched } of choices) entry.hidden = section?.kind === "label" && !searched.includes(text);
  }

  function moveAmongLabels(event) {
    const open = choices.filter(({ entry }) => !entry.hidden).map((choice) => choice.button);
    const at = open.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: open.length - 1 }[event.key];
    if (to === undefined || (at < 0 && event.key !== "ArrowDown")) return;
    event.preventDefault();
    if (to < 0) return $("label-search").focus();
    focusAmong(choices.map((choice) => choice.button), open[Math.min(to, open.length - 1)]);
  }

  function focusAmong(all, one) {
    for (const each of all) each.tabIndex = each === one ? 0 : -1;
    one.focus();
  }

  // Filters

  function readFilters() {
    filters.text = $("search").value.trim().toLowerCase();
    for (const measured of ["probability", "score"]) {
      filters[measured] = [numberIn($(`${measured}-from`)), numberIn($(`${measured}-to`))];
    }
    draw();
  }

  // The placeholder of an empty field is the bound of the images
  function showBounds() {
    const all = items.filter((item) => "nearest" in item);
    for (const measured of all.length ? ["probability", "score"] : []) {
      const bound = (pick, start) => all.reduce((so, { nearest }) => pick(so, nearest[measured]), start);
      $(`${measured}-from`).placeholder = (Math.floor(bound(Math.min, Infinity) * 100) / 100).toFixed(2);
      $(`${measured}-to`).placeholder = (Math.ceil(bound(Math.max, -Infinity) * 100) / 100).toFixed(2);
    }
  }

  function clearFilters() {
    for (const input of document.querySelectorAll("#search, .ranges input")) input.value = "";
    filters.section = null;
    readFilters();
    $("search").focus();
  }

  let waiting;
  function readFiltersSoon() {
    clearTimeout(waiting);
    waiting = setTimeout(readFilters, 80);
  }

  // Moving between cards

  function focusCard(section, index) {
    const grid = [...section.body.children].find((each) => each.from <= index && index < each.to);
    if (!grid) return;
    fill(grid);
    focusAmong(grid.querySelectorAll(".card"), grid.children[index - grid.from].firstChild);
  }

  function moveAmongCards(event) {
    const { section, index } = event.target;
    if (!event.target.classList.contains("card") || event.altKey || event.ctrlKey || event.metaKey) return;
    const target = cardTowards(event.key, section, index);
    if (!target) return;
    event.preventDefault();
    focusCard(...target);
  }

  function cardTowards(key, section, index) {
    const last = drawn(section) - 1;
    const column = index % columns;
    const lastRow = last - (last % columns);
    if (key === "Home") return [section, 0];
    if (key === "End") return [section, last];
    if (key === "ArrowLeft") return index ? [section, index - 1] : beside(section, -1, Infinity);
    if (key === "ArrowRight") return index < last ? [section, index + 1] : beside(section, 1, 0);
    if (key === "ArrowUp") return index >= columns ? [section, index - columns] : beside(section, -1, column);
    if (key === "ArrowDown") return index < lastRow ? [section, Math.min(index + columns, last)] : beside(section, 1, column);
    return null;
  }

  // The card in a column of the last row of the previous section, or the first row of the next
  function beside(section, step, column) {
    const other = visible[visible.indexOf(section) + step];
    if (!other || other.kind === "unreadable") return null;
    const last = drawn(other) - 1;
    return [other, Math.min(step < 0 ? last - (last % columns) + column : column, last)];
  }

  // One image with everything that is known about it

  let viewed = null; // { section, index }

  const viewable = () => visible.filter((section) => section.kind !== "unreadable");

  function view(section, index) {
    viewed = { section, index };
    const item = section.shown[index];
    const places = viewable();
    const before = places.slice(0, places.indexOf(section)).reduce((sum, each) => sum + each.shown.length, 0);
    const total = places.reduce((sum, each) => sum + each.shown.length, 0);
    $("viewer-title").textContent = section.name;
    $("viewer-place").textContent = `${whole(before + index + 1)} of ${whole(total)}`;
    $("viewer-note").textContent = item.rejected ? `Matches none of the labels; nearest: ${item.nearest.label}` : "";
    $("viewer-margin").textContent = item.margin === null ? "none: there is only one label" : fraction(item.margin, 4);
    $("viewer-path").textContent = item.text;
    $("viewer-labels").replaceChildren(
      ...item.predictions.map((each) => rowOf(each, item.rejected ? "other" : "")),
      ...item.others.map((each) => rowOf(each, "other")),
    );
    $("viewer-frame").replaceChildren();
    showThumbnail($("viewer-frame"), item, item.text);
    $("viewer-frame").href = $("viewer-open").href = item.address;
    $("previous").setAttribute("aria-disabled", before + index === 0);
    $("next").setAttribute("aria-disabled", before + index + 1 === total);
    if (!$("viewer").open) $("viewer").showModal();
  }

  function rowOf({ label, score, probability, group }, className) {
    const row = element("tr", className);
    const name = element("td");
    name.append(element("span", "name", label));
    if (group) name.append(" \u00b7 ", element("span", "file", group));
    name.append(barOf(probability));
    row.append(name, element("td", "", fraction(probability, 4)), element("td", "", fraction(score, 4)));
    return row;
  }

  function step(by) {
    const { section, index } = viewed;
    if (section.shown[index + by]) return view(section, index + by);
    const places = viewable();
    const other = places[places.indexOf(section) + by];
    if (other) view(other, by > 0 ? 0 : other.shown.length - 1);
  }

  function copyOriginal() {
    const item = viewed.section.shown[viewed.index];
    copy(pathOf($("viewer-open"), item.path), $("viewer-copy"));
  }

  function closed() {
    const { section, index } = viewed;
    if (index >= drawn(section)) {
      section.expanded = true;
      drawBody(section);
    }
    focusCard(section, index);
  }

  // Start

  function buildAbout() {
    const list = document.querySelector("#about-run dl");
    const rows = JSON.parse($("about").textContent);
    for (const [name, value] of rows) {
      const row = list.appendChild(element("div"));
      const lines = value.split("\n").map(shown).join("\n");
      row.append(element("dt", "", shown(name)), element("dd", "", lines));
    }
    $("about-run").hidden = !rows.length;
  }

  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if ($("viewer").open) {
      if (event.key === "ArrowLeft") step(-1);
      if (event.key === "ArrowRight") step(1);
    } else if (event.key === "/" && !event.target.closest("input")) {
      event.preventDefault();
      $("search").focus();
      $("search").select();
    } else if (event.key === "Escape" && $("panel").classList.contains("open")) togglePanel();
  }

  function togglePanel() {
    const open = $("panel").classList.toggle("open");
    $("panel-toggle").setAttribute("aria-expanded", open);
    $("panel-toggle").focus();
  }

  function resized() {
    const before = columns;
    const { card } = measure();
    if (columns === before && visible.every((section) => section.size.card === card)) return;
    const first = [...document.querySelectorAll(".card")].find((each) => each.getBoundingClientRect().bottom > 120);
    const focused = document.activeElement.classList.contains("card") ? document.activeElement : null;
    draw();
    const anchor = focused ?? (window.scrollY > 0 ? first : null);
    if (!anchor) return;
    const grid = [...anchor.section.body.children].find((each) => each.from <= anchor.index && anchor.index < each.to);
    if (!grid) return;
    fill(grid);
    grid.children[anchor.index - grid.from].scrollIntoView({ block: focused ? "nearest" : "start" });
    if (focused) focusCard(focused.section, focused.index);
  }

  $("sections").addEventListener("click", (event) => {
    const card = event.target.closest(".card");
    if (card) view(card.section, card.index);
  });
  $("sections").addEventListener("keydown", moveAmongCards);
  $("search").addEventListener("input", readFiltersSoon);
  document.querySelector(".ranges").addEventListener("input", readFiltersSoon);
  $("reset").addEventListener("click", clearFilters);
  $("label-search").addEventListener("input", searchLabels);
  document.querySelector("nav").addEventListener("keydown", moveAmongLabels);
  $("panel-toggle").addEventListener("click", togglePanel);
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("viewer-copy").addEventListener("click", copyOriginal);
  $("close").addEventListener("click", () => $("viewer").close());
  $("viewer").addEventListener("click", (event) => event.target === $("viewer") && $("viewer").close());
  $("viewer").addEventListener("close", closed);
  document.addEventListener("keydown", pressed);
  new ResizeObserver(resized).observe($("sections"));

  document.title = `zeroshot: ${plural(items.length, "image")}`;
  buildAbout();
  buildLabels();
  showBounds();
  draw();
}
