// The page begins here.
import { render } from "preact";
import "./styles/tokens.css";
import "./styles/ground.css";
import "./styles/icons.css";
import "./styles/frame.css";
import "./styles/time-bar.css";
import "./styles/controls.css";
import "./styles/filter.css";
import "./styles/facets.css";
import "./styles/table.css";
import "./styles/sections.css";
import "./styles/code.css";
import "./styles/charts.css";
import "./styles/floating.css";
import "./styles/states.css";
import "./styles/narrow.css";
import "./state/theme.ts";
import { App, followLinks } from "./frame/app.tsx";
import { listenToKeys } from "./state/keys.ts";
import { followAddress } from "./state/location.ts";
import { meet } from "./state/session.ts";

followAddress();
followLinks();
listenToKeys();
render(<App />, document.getElementById("page")!);
void meet();
