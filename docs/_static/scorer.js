// Pages that answer a question come before the many names of the Python reference that contain a word of it.
var Scorer = {
  objNameMatch: 11,
  objPartialMatch: 0,
  objPrio: {0: 1, 1: 0, 2: -5},
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
