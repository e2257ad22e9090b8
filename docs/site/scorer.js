// Search: a heading that has the words as they are typed comes before a page that merely mentions them. The page of that very
// name comes first, an option leads to the commands, and `muybridge.VERB` to the reference of Python.
const typed = (new URLSearchParams(location.search).get("q") || "").trim().toLowerCase();
const reference = typed.startsWith("--") ? "docs/reference/commands" : typed.startsWith("muybridge.") ? "docs/reference/api" : null;
var Scorer = {
  score: ([name, , anchor, , score, , kind]) =>
    score + (kind === "title" ? 100 : 0) + (name === reference ? 200 : 0) +
    (name.split("/").pop() === typed && !anchor ? 200 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
