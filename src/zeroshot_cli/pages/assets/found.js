// A button after the name of each image copies its path; files.js precedes this.
for (const link of document.querySelectorAll(".images .path")) {
  const made = button("Copy the path", () => copy(pathOf(link, link.title), made));
  made.classList.add("small");
  made.setAttribute("aria-label", `Copy the path of ${link.textContent}`);
  link.after(made);
}
