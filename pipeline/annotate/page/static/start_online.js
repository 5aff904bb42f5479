// The page behind a server starts here.

import { OnlineDesk } from "./online.js";
import { readConfig, startPage } from "./page.js";

/** @import { ServedConfig } from "./types" */

const config = /** @type {ServedConfig} */ (readConfig());
startPage(config, (changed, inWords) => new OnlineDesk(config, changed, inWords));
