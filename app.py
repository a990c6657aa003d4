"""Batchscope: `streamlit run app.py` starts it.

Streamlit reads this file twice. The server imports it and finds `app`; every visitor's session runs it
as a script, which draws the page that was asked for.
"""

import streamlit as st

from sim_core.view.session import server, shell

if __name__ == "__main__":
    shell.run_page()
else:
    app = st.App(__file__, routes=server.routes(), middleware=server.middleware(), lifespan=server.lifespan)
