// The dialog with the images of one cell of a matrix, as cards like those of the worst mistakes.
{
  const AT_A_TIME = 200;
  const dialog = document.getElementById("cell"), list = dialog.querySelector(".images");
  const more = document.getElementById("cell-more");

  function card(article, [path, address, probability, image]) {
    const item = element("li"), frame = linkTo(address, "frame"), name = shown(path);
    const link = linkTo(address, "path", name.split("/").slice(-2).join("/"));
    const source = typeof image === "number" ? article.querySelectorAll("section .images > li")[image].querySelector("img")?.src : image;
    frame.tabIndex = -1; // the name is a link to the same file
    if (source) frame.append(Object.assign(element("img"), { alt: "", src: source }));
    else frame.textContent = "no preview";
    link.title = name;
    item.append(frame, element("p", "", `${(100 * probability).toFixed(1)} % sure`), link, copyButton(link, path));
    return item;
  }

  function show(article, images, from) {
    list.append(...images.slice(from, from + AT_A_TIME).map((image) => card(article, image)));
    const rest = images.length - from - AT_A_TIME;
    more.hidden = rest <= 0;
    more.textContent = `Show ${whole(Math.min(rest, AT_A_TIME))} more of ${whole(rest)}`;
    more.onclick = () => show(article, images, from + AT_A_TIME);
  }

  document.addEventListener("cell", ({ target, detail: { title, count, images } }) => {
    document.getElementById("cell-title").textContent = title;
    document.getElementById("cell-count").textContent = count;
    list.replaceChildren();
    show(target, images, 0);
    dialog.showModal();
  });
  document.getElementById("cell-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}
