// What the page's modules hand each other. Names with an underscore are those of the server and of a file's config.

/** One scan on somebody's list (`backend.Task`). */
export interface Task {
  image_id: string;
  number: number;
  num_priors: number;
  reason: string | null;
  reply: string | null;
  certainty: Certainty;
  /** Millimetres between two pixels; null where that is not known. */
  spacing_mm: number | null;
  note: Note | null;
  /** To an adjudicator, the different answers of the scan's readers. */
  differing: string[];
}

/** What was drawn on a scan, in its pixels (`scan_notes.Shape`). */
export interface Shape {
  kind: "box" | "arrow" | "length";
  x0: number;
  y0: number;
  x1: number;
  y1: number;
  length_mm: number | null;
}

/** What somebody noted on a scan beside the answer (`scan_notes.Note`). */
export interface Note {
  comment: string;
  flag: boolean;
  shapes: Shape[];
}

/** What an answer means (`backend.Definition`). */
export interface Definition {
  reply: string;
  text: string;
  num_examples: number;
}

/** How far the reader and the team are (`backend.Progress`). */
export interface Progress {
  done: number;
  left: number;
  team_done: number;
  team_total: number;
  seconds_per_scan: number | null;
}

/** What is asked. */
export interface Question {
  title: string;
  findings: string[];
}

/** What every page is told (`markup.page_html`). */
export interface Config extends Question {
  independent: boolean;
  remarks: { reply: string; key: string }[];
  none: string;
  /** An answer that comes sooner has to be given again. */
  min_seconds: number;
  definitions: Definition[];
}

/** What a page behind a server is told besides; `name` is the run's. */
export interface ServedConfig extends Config {
  name: string;
  /** Whose own link the page was opened by; else empty. */
  reader: string;
}

/** What a page in a file is told besides (`offline.offline_html`). */
export interface FileConfig extends Config {
  tasks: Task[];
  annotator: string;
  names: NameRules;
  round: number;
  run: string;
  columns: string[];
}

/** Which names of readers are taken. */
export interface NameRules {
  reserved: string[];
  longest: number;
}

export type Certainty = "sure" | "unsure" | null;

/** The part of the page that a button stands in: a finding, an answer to the whole scan, or a remark about it. */
export type Box = "findings" | "whole" | "remarks";

/** An answer that may be given, and its button. */
export interface Choice {
  reply: string;
  key: string;
  box: Box;
  button: HTMLButtonElement;
}

/** What the page asks of the labels behind it: a server's or a file's. */
export interface DeskOf<Kind extends string> {
  readonly kind: Kind;
  /** Under which name this device keeps who reads. */
  readonly nameKey: string;
  /** Who reads, where the page has been told; else empty. */
  readonly givenName: string;
  /** Who reads; null while nobody may answer here. */
  annotator: string | null;
  /** The list that one window at a time has. */
  readonly lock: string;
  readonly question: Question;
  /** Answers that are not on the server's disk yet. */
  readonly waiting: number;
  /** Whether closing the page would lose something. */
  readonly atRisk: boolean;
  readonly canDismiss: boolean;
  /** The name as it is kept; throws when it is none. */
  enter(name: string): Promise<string>;
  tasks(num: number, shown: string[]): Promise<Task[]>;
  answer(task: Task, reply: string, certainty: Certainty, seconds: number): void;
  /** The scan that is open again; null when there is none to take back. */
  undo(): Promise<Task | null>;
  /** The reader's answers so far, the latest first, each with its reply. */
  mine(): Promise<Task[]>;
  dismiss(): void;
  progress(): Progress;
  notice(): string;
  /** Other scans of the same patient. */
  priors(task: Task): Promise<string[]>;
  src(imageId: string): string;
  /** Whether a scan has 16 bits, and its file may be read. */
  isDeep(imageId: string): boolean;
  /** Why a picture did not come; null: there is none, and asking again would not help. */
  pictureProblem(imageId: string): Promise<string | null>;
}

/** The desk in a file: its answers are saved by hand. */
export interface SavingDesk extends DeskOf<"file"> {
  readonly unsaved: boolean;
  save(): void;
}

/** The desk behind a server keeps what is noted beside an answer, too. */
export interface NotingDesk extends DeskOf<"server"> {
  note(annotator: string, imageId: string, note: Note): Promise<string>;
}

export type Desk = NotingDesk | SavingDesk;

/** A request's body; what of it is there depends on the path. */
export interface Sent {
  annotator: string;
  key: string;
  image_id?: string;
  reply?: string;
  certainty?: Certainty;
  seconds?: number;
  of?: string | null;
}

/** An answer (with its `task`) or an undo (`of` an answer's key) on its way to the server. */
export interface Waiting {
  path: "answer" | "undo";
  body: Sent;
  task?: Task;
  of?: string;
}

/** An answer that the server will never take, until it has been read about. */
export interface Refused {
  /** Null: an undo. */
  reply: string | null;
  number: number | undefined;
  why: string;
}

/** What the server replies, by the request's path (`api.Api`). */
export interface Replies {
  enter: { annotator: string; progress: Progress };
  next: Question & { tasks: Task[]; deep: string[]; progress: Progress };
  answer: { progress: Progress };
  undo: { task: Task | null; deep: string[]; progress: Progress };
  priors: { priors: string[]; deep: string[] };
  mine: { answers: Task[]; deep: string[] };
  note: Record<string, never>;
}

/** A row of the table that a file saves. */
export interface Row {
  image_id: string;
  rank: number;
  file: string;
  label: string;
  certainty: Certainty;
  seconds: number;
  labelled_at: string;
}
