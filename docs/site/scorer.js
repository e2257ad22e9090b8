// Search: a heading that has the words as they are typed comes before a page that merely mentions them. A page of that very
// name comes first. An option leads to the commands, and `muybridge.VERB` to its place in the reference of Python.
const typed = (new URLSearchParams(location.search).get("q") || "").trim().toLowerCase();
const isOption = typed.startsWith("--"), isVerb = typed.startsWith("muybridge.");
const reference = isOption ? "docs/reference/commands" : isVerb ? "docs/reference/api" : null;
var Scorer = {
  score: result => {
    const [name, , anchor, , score, , kind] = result;
    if (name === reference && !anchor) {
      const meant = Texts[name].find(([id, text]) => (isVerb ? id === typed.slice(10) : text.includes(typed)));
      if (meant) result[2] = "#" + meant[0];
    }
    const isNamed = name.split("/").pop() === typed && !anchor;
    return score + (kind === "title" ? 100 : 0) + (name === reference || isNamed ? 200 : 0);
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
