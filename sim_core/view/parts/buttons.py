"""Buttons that act in the browser alone: copy the link, save the chart as PNG, SVG or slide."""

from __future__ import annotations

import streamlit as st

from sim_core.view.session import server

_CSS = """
.bs-buttons { display: flex; flex-wrap: wrap; gap: 1rem; }
.bs-button { font: inherit; font-size: 0.875rem;
  color: var(--st-text-color); background: var(--st-background-color);
  border: 1px solid var(--st-border-color); border-radius: var(--st-button-radius); padding: 0 0.85rem;
  min-height: 2.5rem; cursor: pointer; white-space: nowrap; }
.bs-button:is(:hover, :focus-visible) { color: var(--st-primary-color); border-color: currentColor;
  outline: none; }
"""
_JS = """
async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const field = Object.assign(document.createElement("textarea"), { value: text });
  document.body.appendChild(field); field.select(); document.execCommand("copy"); field.remove();
}
export default function ({ data, parentElement }) {
  let row = parentElement.querySelector(".bs-buttons");
  if (!row) {
    row = document.createElement("div");
    row.className = "bs-buttons";
    parentElement.appendChild(row);
  }
  while (row.children.length > data.labels.length) row.lastChild.remove();
  data.labels.forEach((label, place) => draw(row, label, place, data));
}
function draw(row, label, place, { link, chart }) {
  let button = row.children[place];
  if (!button) {
    button = document.createElement("button");
    button.type = "button";
    button.className = "bs-button";
    row.appendChild(button);
  }
  button.textContent = label;
  button.onclick = async () => {
    const detail = { chart, format: label.toLowerCase() };
    if (chart) window.dispatchEvent(new CustomEvent("batchscope:save", { detail }));
    if (link === undefined) return;
    await copy(link || window.location.href);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1500);
  };
}
"""
_component = st.components.v2.component(
    "batchscope_button", js=server.script("button", _JS, _CSS), isolate_styles=False
)


def copy_link(link: str, key: str = "copy_link") -> None:
    """Draw the button that copies a link."""
    _component(data={"labels": ["Copy link"], "link": link}, key=key, width="content")


def save(chart: str) -> None:
    """Draw the buttons that save a chart as PNG, SVG or slide: one component, for each costs a message."""
    _component(data={"labels": ["PNG", "SVG", "Slide"], "chart": chart}, key="save", width="content")
