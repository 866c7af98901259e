# A service for one model: docker build -t detector . && docker run -p 8000:8000 -v $PWD/runs/shop:/model:ro detector
FROM python:3.12-slim
WORKDIR /src
RUN pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/cpu
COPY pyproject.toml README.md LICENSE ./
COPY detectron2 detectron2
RUN pip install --no-cache-dir '.[serve]' && useradd --create-home server
USER server
EXPOSE 8000
HEALTHCHECK CMD python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/ready', timeout=5)"
ENTRYPOINT ["detectron2", "serve"]
CMD ["/model", "--host", "0.0.0.0"]
