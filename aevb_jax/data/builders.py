"""TensorFlow Datasets builders of the paper's data sets, which need no TensorFlow.

The sets that TFDS also has (mnist, fashion_mnist, kmnist, binarized_mnist) are prepared under the
same name and version, with the same features, in the same order. Readers need not know whether
TFDS or this module prepared a directory.
"""

import pathlib

import numpy as np
import tensorflow_datasets as tfds

from aevb_jax.data import formats
from aevb_jax.data.downloads import RemoteFile
from aevb_jax.data.image_builders import IdxBuilder, ImageBuilder, Split, idx_files


class Mnist(IdxBuilder, skip_registration=True):
  name = "mnist"
  VERSION = tfds.core.Version("3.0.1")
  # Digests of the contents, because the files exist in more than one compression.
  files = idx_files(
    (
      "https://storage.googleapis.com/cvdf-datasets/mnist",
      "https://ossci-datasets.s3.amazonaws.com/mnist",
    ),
    (
      "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
      "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
      "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
      "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    of_contents=True,
  )
  class_names = tuple("0123456789")
  description = "The MNIST database of handwritten digits: 70000 grey images of 28×28 pixels."
  homepage = "http://yann.lecun.com/exdb/mnist/"
  license = "Creative Commons Attribution-ShareAlike 3.0"
  citation = """@misc{lecun1998mnist,
  title = {The {MNIST} database of handwritten digits},
  author = {LeCun, Yann and Cortes, Corinna and Burges, Christopher J. C.},
  year = {1998},
  url = {http://yann.lecun.com/exdb/mnist/}
}"""


class FashionMnist(IdxBuilder, skip_registration=True):
  name = "fashion_mnist"
  VERSION = tfds.core.Version("3.0.1")
  files = idx_files(
    ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",),
    (
      "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
      "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
      "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
      "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
  )
  class_names = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
  )  # fmt: skip
  description = "Zalando's articles of clothing: 70000 grey images of 28×28 pixels."
  homepage = "https://github.com/zalandoresearch/fashion-mnist"
  license = "MIT"
  citation = """@article{xiao2017fashion,
  title = {{Fashion-MNIST}: a novel image dataset for benchmarking machine learning algorithms},
  author = {Xiao, Han and Rasul, Kashif and Vollgraf, Roland},
  journal = {arXiv:1708.07747},
  year = {2017}
}"""


class Kmnist(IdxBuilder, skip_registration=True):
  name = "kmnist"
  VERSION = tfds.core.Version("3.0.1")
  files = idx_files(
    ("http://codh.rois.ac.jp/kmnist/dataset/kmnist",),
    (
      "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
      "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
      "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
      "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    ),
  )
  class_names = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
  description = "Kuzushiji-MNIST: 70000 grey images of 28×28 pixels of cursive Japanese characters."
  homepage = "http://codh.rois.ac.jp/kmnist/index.html.en"
  license = "Creative Commons Attribution-ShareAlike 4.0"
  citation = """@article{clanuwat2018deep,
  title = {Deep learning for classical {Japanese} literature},
  author = {Clanuwat, Tarin and Bober-Irizar, Mikel and Kitamoto, Asanobu and Lamb, Alex
            and Yamamoto, Kazuaki and Ha, David},
  journal = {arXiv:1812.01718},
  year = {2018}
}"""


class BinarizedMnist(ImageBuilder, skip_registration=True):
  name = "binarized_mnist"
  VERSION = tfds.core.Version("1.0.0")
  files = tuple(
    RemoteFile(
      f"binarized_mnist_{split}.amat",
      ("http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist",),
      f"sha256:{digest}",
    )
    for split, digest in (
      ("train", "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d"),
      ("valid", "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2"),
      ("test", "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"),
    )
  )
  description = (
    "MNIST, binarized once by Larochelle & Murray (2011) after Salakhutdinov & Murray (2008): "
    "70000 images of 28×28 pixels, each 0 or 1."
  )
  homepage = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
  license = "none stated; made from MNIST"
  citation = """@inproceedings{salakhutdinov2008quantitative,
  title = {On the quantitative analysis of deep belief networks},
  author = {Salakhutdinov, Ruslan and Murray, Iain},
  booktitle = {International Conference on Machine Learning},
  year = {2008}
}"""

  def read(self, paths: list[pathlib.Path]) -> dict[str, Split]:
    return {
      name: Split(formats.read_amat(path, 28 * 28).reshape(-1, 28, 28, 1), None)
      for name, path in zip(("train", "validation", "test"), paths, strict=True)
    }


class FreyFace(ImageBuilder, skip_registration=True):
  name = "frey_face"
  VERSION = tfds.core.Version("1.0.0")
  files = (
    RemoteFile(
      "frey_rawface.mat",
      ("https://cs.nyu.edu/~roweis/data",),
      "sha256:5c08f6f14a7e8c9bf303e36fca7e365071a6afffcfe317d89ee0fde5eaa85f71",
    ),
  )
  image_shape = (28, 20, 1)
  keeps_order = True
  description = (
    "1965 grey images of 28×20 pixels of Brendan Frey's face: the frames of one video, in order."
  )
  homepage = "https://cs.nyu.edu/~roweis/data.html"
  license = "none stated"
  citation = """@misc{roweis_frey_face,
  title = {Frey Face},
  author = {Roweis, Sam and Frey, Brendan},
  url = {https://cs.nyu.edu/~roweis/data.html}
}"""

  def read(self, paths: list[pathlib.Path]) -> dict[str, Split]:
    # Each column is one image, stored row by row.
    frames = formats.read_mat(paths[0], {"ff": (560, 1965)})["ff"]
    return {"train": Split(frames.T.reshape(-1, 28, 20, 1), None)}


class Omniglot28x28(ImageBuilder, skip_registration=True):
  name = "omniglot_28x28"
  VERSION = tfds.core.Version("1.0.0")
  files = (
    RemoteFile(
      "chardata.mat",
      ("https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT",),
      "md5:21ecaf34373511aa7691cf2e0802aa3d",
    ),
  )
  pixel_type = np.float32
  class_names = tuple(f"alphabet {i}" for i in range(50))
  keeps_order = True
  num_images = {"train": 24345, "test": 8070}
  description = (
    "OMNIGLOT as Burda, Grosse & Salakhutdinov (2015) made it: 32415 characters of 50 alphabets, "
    "28×28 grey pixels in [0, 1]; the label is the alphabet."
  )
  homepage = "https://github.com/yburda/iwae"
  license = "MIT (OMNIGLOT itself)"
  citation = """@article{lake2015human,
  title = {Human-level concept learning through probabilistic program induction},
  author = {Lake, Brenden M. and Salakhutdinov, Ruslan and Tenenbaum, Joshua B.},
  journal = {Science},
  volume = {350},
  number = {6266},
  pages = {1332--1338},
  year = {2015}
}"""

  def read(self, paths: list[pathlib.Path]) -> dict[str, Split]:
    n_train, n_test = self.num_images["train"], self.num_images["test"]
    shapes = {
      "data": (784, n_train),
      "target": (50, n_train),
      "testdata": (784, n_test),
      "testtarget": (50, n_test),
    }
    m = formats.read_mat(paths[0], shapes)

    def split(pixels: np.ndarray, one_hot: np.ndarray) -> Split:
      # Each column is one image, stored column by column.
      images = pixels.T.reshape(-1, 28, 28).transpose(0, 2, 1)[..., None]
      return Split(np.ascontiguousarray(images, np.float32), one_hot.argmax(axis=0))

    return {
      "train": split(m["data"], m["target"]),
      "test": split(m["testdata"], m["testtarget"]),
    }


BUILDERS = {
  builder.name: builder
  for builder in (Mnist, FashionMnist, Kmnist, BinarizedMnist, FreyFace, Omniglot28x28)
}
