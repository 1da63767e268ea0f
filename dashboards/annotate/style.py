"""How the pages look: dense enough for a whole item on one laptop screen, quiet enough for hours."""

from __future__ import annotations

import streamlit as st

CSS = """
<style>
.block-container, [data-testid="stMainBlockContainer"] { padding: 2.6rem 1.6rem 1rem; max-width: 1800px; }
[data-testid="stVerticalBlock"] { gap: .55rem; }
[class*="st-key-viewer_bar"] button, [class*="st-key-details_"] button {
  min-height: 1.75rem; padding: 0 .5rem; font-size: .82rem; }
[class*="st-key-viewer_bar"], [class*="st-key-details_"] { gap: .35rem !important; }
[class*="st-key-outcomes_"] { gap: .5rem !important; }
[class*="st-key-outcomes_"] button { min-height: 2.7rem; font-weight: 600; }
[class*="st-key-asked_"] { max-height: 8.5rem; overflow: auto; border-left: 4px solid var(--st-primary-color, #1f5fbf);
  padding: .1rem .8rem; }
[class*="st-key-asked_"] [data-testid="stText"], [class*="st-key-as_text"] [data-testid="stText"] {
  font-family: inherit;
  white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext; text-align: start; }
[class*="st-key-asked_"] [data-testid="stText"] { font-size: 1.12rem; line-height: 1.5; }
[class*="st-key-spelled"] [data-testid="stText"] { font-family: ui-monospace, "Noto Sans Mono CJK SC", monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; }
[class*="st-key-numbers"] { color: #5b6470; font-size: .85rem; }
[class*="st-key-numbers"] [data-testid="stText"] { font-family: inherit; font-size: .85rem;
  font-variant-numeric: tabular-nums; }
[class*="st-key-question"] [data-testid="stText"] { font-weight: 600; font-size: .95rem; }
[data-testid="InputInstructions"] { display: none; } /* English whatever the language; forms have their buttons */
/* one that is folded away takes no room */
body:not(:has([data-testid="stExpandSidebarButton"])) [data-testid="stSidebar"] {
  min-width: 210px !important; max-width: 250px !important; }
/* keys on buttons: 4.5 to 1 and more on their ground, and none where there is no keyboard */
button kbd { color: #4a5260 !important; opacity: 1 !important; }
button[kind="primary"] kbd { color: #fff !important; }
@media (pointer: coarse) { button kbd { display: none !important; } }
/* a notice lies over the page: one that comes or goes moves no image */
.st-key-notice { position: fixed; left: 50%; top: 3.4rem; transform: translateX(-50%); z-index: 999;
  width: min(560px, 92vw) !important; background: var(--st-background-color, #fff); border-radius: 8px;
  box-shadow: 0 2px 12px #0003; }
[class*="st-key-outcomes_"] { display: grid !important; grid-template-columns: repeat(auto-fit, minmax(8.4rem, 1fr)); }
[class*="st-key-outcomes_"] > div, [class*="st-key-outcomes_"] button { width: 100% !important; min-width: 0;
  padding-inline: .4rem; }
@media (max-width: 1024px) { body:not(:has([data-testid="stExpandSidebarButton"])) [data-testid="stSidebar"] {
  min-width: 160px !important;
  max-width: 176px !important; width: 176px !important; }
  [data-testid="stSidebar"] [data-testid="stSidebarUserContent"] { padding: 0 .6rem; } }
button:focus-visible { outline: 3px solid #1f5fbf !important; outline-offset: 2px; }
@media (max-width: 768px) { .block-container, [data-testid="stMainBlockContainer"] { padding: 4rem .9rem 1rem; } }
@media (prefers-reduced-motion: reduce) { * { transition: none !important; animation: none !important; } }
</style>
"""


def apply() -> None:
    """Put the style into the page. Ours alone: nothing of it comes from data."""
    st.html(CSS)
