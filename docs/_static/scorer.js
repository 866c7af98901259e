// Pages that answer a question come before the many names of the Python reference that contain its words.
var Scorer = {
  objNameMatch: 11,
  objPartialMatch: 0,
  objPrio: {0: 1, 1: 0, 2: -5},
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
  score: ([page, title, anchor, description, score, file, kind]) => {
    if (page.startsWith("reference/api/")) return score - 40;
    if (kind === "title") score += 20; // a heading has the words as they were asked
    if (page.startsWith("project/") || page.startsWith("ko/")) return score - 10;
    if (page.startsWith("how-to/") || page.startsWith("tutorials/")) return score + 3;
    return score;
  },
};
