// Search results show a piece of their page. Sphinx fetches each page for that, which a browser forbids in a folder; here
// the texts come from texts.js, which the build writes: of each page a list of [anchor, text].
window.fetch = address => {
  const name = address.slice(document.documentElement.dataset.content_root.length).replace(/\.html$/, "");
  return Promise.resolve({ text: () => Promise.resolve(name) });
};
Search.htmlToText = (name, anchor) => {
  const sections = Texts[name] || [];
  const chosen = sections.filter(([id]) => anchor && "#" + id === anchor);
  return (chosen.length ? chosen : sections).map(([, text]) => text).join(" ");
};
