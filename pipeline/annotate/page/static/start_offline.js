// The page in a file starts here.

import { OfflineDesk } from "./offline.js";
import { readConfig, startPage } from "./page.js";

/** @import { FileConfig } from "./types" */

const config = /** @type {FileConfig} */ (readConfig());
startPage(config, (changed) => new OfflineDesk(config, changed));
