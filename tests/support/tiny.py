"""A data set like MNIST with 60 images, its files, and a server of them.

python -m tests.support.tiny DATA_DIR ADDRESS   # prepares it and prints what it read
"""

import contextlib
import gzip
import hashlib
import http.server
import pathlib
import sys
import threading

import numpy as np

NAMES = (
  "train-images-idx3-ubyte.gz",
  "train-labels-idx1-ubyte.gz",
  "t10k-images-idx3-ubyte.gz",
  "t10k-labels-idx1-ubyte.gz",
)


def arrays():
  """Returns images and labels, train and test."""
  rng = np.random.default_rng(0)
  return (
    rng.integers(0, 256, size=(40, 28, 28), dtype=np.uint8),
    rng.integers(0, 10, size=40, dtype=np.uint8),
    rng.integers(0, 256, size=(20, 28, 28), dtype=np.uint8),
    rng.integers(0, 10, size=20, dtype=np.uint8),
  )


def idx(array, kind=0x08):
  """Returns the bytes of an IDX file."""
  header = bytes([0, 0, kind, array.ndim]) + np.asarray(array.shape, ">u4").tobytes()
  return header + array.tobytes()


def files():
  return {
    name: gzip.compress(idx(array), mtime=0) for name, array in zip(NAMES, arrays(), strict=True)
  }


def builder(data_dir, mirror=None, changes=None, check=True):
  """Makes a builder of the set, with the checksums of its files; `changes` replaces some files."""
  from aevb_jax.data.builders import Mnist
  from aevb_jax.data.downloads import RemoteFile

  contents = files() | (changes or {})

  class Tiny(Mnist, skip_registration=True):
    name = "tiny"
    files = tuple(
      RemoteFile(
        name,
        (mirror or "http://127.0.0.1:9",),
        f"sha256:{hashlib.sha256(contents[name]).hexdigest()}" if check else None,
      )
      for name in NAMES
    )
    timeout = 0.5

  return Tiny(data_dir=str(data_dir), file_format="array_record")


def read(prepared):
  """Returns all images and labels that a builder prepared, by split."""
  return {
    split: [(example["image"], example["label"]) for example in prepared.as_data_source(split)]
    for split in ("train", "test")
  }


@contextlib.contextmanager
def server(contents, behaviour="serve"):
  """Serves files by name on 127.0.0.1; yields the address and the list of requested names.

  Behaviours: serve, stall (headers, half of the body, then nothing), silent (not
  even headers), cut (half of the body), or a status code.
  """
  asked = []
  stop = threading.Event()

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      name = self.path.rsplit("/", 1)[-1]
      asked.append(name)
      body = contents.get(name)
      if isinstance(behaviour, int) or body is None:
        self.send_error(behaviour if isinstance(behaviour, int) else 404)
        return
      if behaviour == "silent":
        stop.wait(20)
        return
      self.send_response(200)
      self.send_header("Content-Length", str(len(body)))
      self.end_headers()
      self.wfile.write(body if behaviour == "serve" else body[: len(body) // 2])
      self.wfile.flush()
      if behaviour == "stall":
        stop.wait(20)

    def log_message(self, *args):
      pass

  httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  thread = threading.Thread(target=httpd.serve_forever, kwargs=dict(poll_interval=0.02))
  thread.start()
  try:
    yield f"http://127.0.0.1:{httpd.server_port}/files", asked
  finally:
    stop.set()
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def main(data_dir, address):
  from aevb_jax.data.prepare import prepare

  tiny = builder(pathlib.Path(data_dir), address)
  prepare(tiny)
  print(sum(int(image.sum()) for split in read(tiny).values() for image, _ in split))


if __name__ == "__main__":
  main(*sys.argv[1:])
