// The labelling page: one scan, one answer, the next scan. This puts its parts together.

import { Answering } from "./answering.js";
import { AnswersList } from "./answers_list.js";
import { makeChoices } from "./choices.js";
import { Clock } from "./clock.js";
import { buttonOf, byId, dialogOf, say } from "./dom.js";
import { Drawing } from "./drawing.js";
import { fillGuide, openGuide } from "./guide.js";
import { fillHelp } from "./help.js";
import { bindKeys } from "./keys.js";
import { Marks } from "./marks.js";
import { Notes } from "./notes.js";
import { describeView, showDiffering, showReason, toggleReason } from "./overlay.js";
import { Pictures } from "./pictures.js";
import { Priors } from "./priors.js";
import { Reader } from "./reader.js";
import { Scans } from "./scans.js";
import { Stage } from "./stage.js";
import { report } from "./status.js";
import { replyText } from "./texts.js";
import { View } from "./view.js";

/** @import { Commands } from "./keys.js" */
/** @import { Config, Desk } from "./types" */

/**
 * What the page was told; whoever reads it knows which kind of config it is.
 * @returns {unknown}
 */
export const readConfig = () => JSON.parse(byId("config").textContent ?? "");

/**
 * @param {Config} config
 * @param {(changed: () => void, inWords: (reply: string) => string) => Desk} makeDesk
 */
export function startPage(config, makeDesk) {
  const choices = makeChoices(config, (choice, doubtful) => answering.choose(choice, doubtful));
  const marks = config.independent ? new Marks(config, choices, say) : null;
  /** @param {string} reply */
  const inWords = (reply) => marks?.said(reply) ?? replyText(reply);
  const answerButtons = [...choices.map(({ button }) => button), buttonOf("record")];
  const changed = () => report(desk, scans.current, answerButtons);
  const desk = makeDesk(() => {
    changed();
    scans.refresh();
  }, inWords);
  const view = new View(byId("view"), (shown) => {
    describeView(shown);
    drawing.paint();
  });
  const pictures = new Pictures(desk, (id) => {
    stage.late(id);
    priors.late(id);
  });
  const stage = new Stage(view, new Clock(), pictures);
  const scans = new Scans({ desk, stage, pictures, findings: config.findings, changed, turned });
  const priors = new Priors(desk, new View(byId("prior")), pictures, () => scans.current);
  const answering = new Answering(desk, stage, scans, marks, inWords, changed, config.min_seconds);
  const notes = new Notes(desk, () => scans.current);
  const drawing = new Drawing(view, notes, () => scans.current);
  const answers = new AnswersList(desk, scans, inWords, (task) => answering.goBack(task));
  /** @param {string} imageId */
  function turned(imageId) {
    priors.close();
    showReason(false);
    showDiffering(scans.current, inWords);
    drawing.stop();
    notes.show();
    marks?.show(imageId);
  }
  const commands = { ...commandsOf(answering, scans, priors, view), ...notingOf(drawing, notes, answers) };
  bindKeys([view, priors.view], choices, commands, answering);
  bindRest(desk, notes);
  fillGuide(config.definitions);
  const defined = config.definitions.length > 0;
  fillHelp(choices, { served: desk.kind === "server", several: config.independent, defined });
  changed();
  const forget = () => {
    answering.restart();
    notes.forget();
  };
  new Reader(desk, scans, forget).start();
}

/**
 * What the keys do that answer nothing.
 * @param {Answering} answering
 * @param {Scans} scans
 * @param {Priors} priors
 * @param {View} view
 * @returns {Commands}
 */
function commandsOf(answering, scans, priors, view) {
  const views = () => (priors.isOpen ? [view, priors.view] : [view]);
  const undo = () => answering.undo();
  return {
    u: () => answering.toggleUnsure(),
    z: undo,
    backspace: undo,
    x: () => answering.clearMarks(),
    i: () => {
      for (const one of views()) one.invert();
    },
    r: () => {
      for (const one of views()) one.reset();
    },
    o: () => {
      for (const one of views()) one.actual();
    },
    t: () => {
      for (const one of views()) one.turn();
    },
    m: () => {
      for (const one of views()) one.magnify();
    },
    p: () => priors.toggle(),
    w: () => toggleReason(scans.current?.reason),
    "?": () => dialogOf("help").showModal(),
    escape: () => {
      priors.close();
      showReason(false);
    },
    arrowleft: () => priors.turn(-1),
    arrowright: () => priors.turn(1),
  };
}

/**
 * What the keys do beside an answer.
 * @param {Drawing} drawing
 * @param {Notes} notes
 * @param {AnswersList} answers
 * @returns {Commands}
 */
function notingOf(drawing, notes, answers) {
  return {
    f: () => drawing.use("box"),
    v: () => drawing.use("arrow"),
    l: () => drawing.use("length"),
    e: () => drawing.clear(),
    k: () => notes.open(),
    a: () => answers.open(),
    d: openGuide,
  };
}

/**
 * @param {Desk} desk
 * @param {Notes} notes
 */
function bindRest(desk, notes) {
  byId("dismiss").addEventListener("click", () => desk.dismiss());
  byId("save").hidden = desk.kind !== "file";
  for (const id of ["box", "arrow", "drawing-clear"]) byId(id).hidden = desk.kind === "file"; // which keeps answers alone
  if (desk.kind === "file") byId("save").addEventListener("click", () => desk.save());
  window.addEventListener("beforeunload", (event) => {
    if (desk.atRisk || notes.atRisk) event.preventDefault();
  });
}
