"""Buttons that act in the browser alone: copy the link, save the chart as PNG or SVG."""

from __future__ import annotations

import streamlit as st

from sim_core.view.session import server

_CSS = """
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
  let button = parentElement.querySelector("button");
  if (!button) {
    button = document.createElement("button");
    button.type = "button";
    button.className = "bs-button";
    parentElement.appendChild(button);
  }
  button.textContent = data.label;
  button.onclick = async () => {
    if (data.save) window.dispatchEvent(new CustomEvent("batchscope:save", { detail: data.save }));
    if (data.link === undefined) return;
    await copy(data.link || window.location.href);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = data.label; }, 1500);
  };
}
"""
_component = st.components.v2.component(
    "batchscope_button", js=server.script("button", _JS, _CSS), isolate_styles=False
)


def copy_link(link: str, key: str = "copy_link") -> None:
    """Draw the button that copies a link."""
    _component(data={"label": "Copy link", "link": link}, key=key, width="content")


def save(chart: str, format: str) -> None:
    """Draw the button that saves a chart as `png` or `svg`."""
    detail = {"chart": chart, "format": format}
    _component(data={"label": format.upper(), "save": detail}, key=format, width="content")
