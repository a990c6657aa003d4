"""The product in a browser: the only rooms that know Streamlit and Plotly."""
