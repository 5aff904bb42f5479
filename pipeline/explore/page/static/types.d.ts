// What the page's modules hand each other. Names with an underscore are those of the server.

/** What one column must say (`scan_filter.Clause`). */
export interface Clause {
  column: string;
  values?: (string | null)[];
  low?: number | null;
  high?: number | null;
}

export type Corner = [number, number];

/** The scans that fulfil all of this (`scan_filter.Choice`). */
export interface Choice {
  where: Clause[];
  lasso: Corner[];
  named: string[];
}

export interface Order {
  by: string;
  descending: boolean;
}

/** What is looked at: it is the page's address, and what a saved view keeps. */
export interface View {
  choice: Choice;
  order: Order;
  color: string | null;
}

/** A column (`viewer._described`): a category has `values`, a number `low` and `high`; colours go `from` one `to` the other. */
export interface Column {
  key: string;
  title: string;
  group: string;
  meaning: string;
  num_unknown: number;
  unknown: string;
  values?: { name: string; num: number }[];
  low?: number;
  high?: number;
  from?: number;
  to?: number;
}

export interface SavedView {
  name: string;
  view: View;
  who: string;
  time: string;
}

export interface About {
  title: string;
  num: number;
  columns: Column[];
  missing: string[];
  max_marked: number;
  has_report: boolean;
  views: SavedView[];
}

export interface Card {
  image_id: string;
  x: number;
  y: number;
  sealed: boolean;
  picture: number;
  facts: string[];
}

export interface Scan extends Card {
  said: { title: string; value: string; meaning: string }[];
  copies: Card[];
  alike: Card[];
  tags: string[];
  wished_by: string | null;
}

/** What each request is sent back. */
export interface Replies {
  about: About;
  gallery: { num: number; num_sealed: number; scans: Card[] };
  scan: { scan: Scan | null };
  find: { named: string[] };
  tag: { tag: string; num: number; about: About };
  wish: { num: number; left_out: Record<string, number>; about: About };
  view: { about: About };
}

/** Points of the map (`map_points`), arrays of one length; `meant` counts those that were not sent too. */
export interface Points {
  meant: number;
  rows: Uint32Array;
  x: Uint16Array;
  y: Uint16Array;
  color: Uint8Array;
}

/** How the map lies on the screen: pixel = offset + scale × share of the map, y upwards. */
export interface Place {
  scale: number;
  left: number;
  bottom: number;
}
