# Batchscope for others: `docker compose up --build`. docs/operate.md says how to run it.
FROM python:3.13-slim

# The machine code in the image fits every processor of its kind, not only the one it was built on.
ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 NUMBA_CPU_NAME=generic

WORKDIR /app
COPY requirements.txt ./
RUN pip install -q -r requirements.txt "psycopg[binary]>=3.2,<4"
COPY . .
RUN NUMBA_CACHE_DIR=/app/kernels python -m sim_core.view.session.preparation > /dev/null
RUN python -m compileall -q app.py pages sim_core

# From here on nothing is written but below /tmp, which is the only place that must be writable.
USER 10001:10001
ENV HOME=/tmp NUMBA_CACHE_DIR=/tmp/kernels STREAMLIT_SERVER_PORT=8501
EXPOSE 8501
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s \
    CMD python -c "import os, urllib.request as web; web.urlopen('http://127.0.0.1:' + os.environ['STREAMLIT_SERVER_PORT'] + '/_stcore/health', timeout=4)"
CMD mkdir -p /tmp/kernels && cp -r /app/kernels/. /tmp/kernels && exec python -m streamlit run app.py --server.headless true --server.address 0.0.0.0
