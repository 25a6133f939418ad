"""
Conversion of texts to vectors. The angle between the vectors of two texts about the
same subject is small.

The method is latent semantic analysis. Each text first becomes a vector with a weight
for each word, which is greater for rare words (TF-IDF). These vectors are then reduced
to the directions in which the texts differ most (truncated SVD). The method needs no
download and takes a second or two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from threadpoolctl import threadpool_limits

Vectors = npt.NDArray[np.float64]

STOP_WORDS = ENGLISH_STOP_WORDS | {"django"}

# A pattern for a word. Names such as QuerySet, bulk_create, HTTPServer and
# get_object_or_404 consist of several words.
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

# These endings are removed, so that "page" and "pages" are one word.
ENDING = re.compile(r"(?<=\w{3})(?:ies|ing|ed|es|e|y|(?<!s)s)$")


def words(text: str) -> list[str]:
    """Return the words of `text` without stop words and endings."""
    found = (word.lower() for word in WORD.findall(text))
    return [
        ENDING.sub("", word)
        for word in found
        if len(word) > 1 and word not in STOP_WORDS
    ]


class Embedder:
    """
    Converts documents, and questions about the documents, to vectors.

    `documents` are pairs of a dotted name and a text. Their words determine the
    conversion, so the same documents in the same order always give the same vectors.
    Each vector has the length 1 and as many elements as `dimensions`.
    """

    def __init__(self, documents: Iterable[tuple[str, str]], dimensions: int) -> None:
        names, texts = zip(*documents, strict=True)
        summaries = [text.partition("\n\n")[0] for text in texts]
        self._tfidf = TfidfVectorizer(analyzer=words, sublinear_tf=True)
        self._tfidf.fit([*names, *texts])
        # Names and summaries are short, but as important as the rest of the text.
        weights = sum(self._tfidf.transform(part) for part in (names, summaries, texts))
        self._reduce = make_pipeline(
            Normalizer(), TruncatedSVD(dimensions, random_state=0), Normalizer()
        )
        # For matrices of this size, several threads are slower than one thread, and
        # much slower on a busy machine.
        with threadpool_limits(limits=1, user_api="blas"):
            self.vectors: Vectors = self._reduce.fit_transform(weights)

    def embed(self, question: str) -> Vectors:
        """
        Return the vector of `question`.

        Raises ValueError if no word of the question occurs in the documents, because
        its vector would be zero.
        """
        weights = self._tfidf.transform([question])
        if not weights.nnz:
            raise ValueError(
                f"No word of {question!r} occurs in the documents, not counting "
                "words such as 'how' and 'the'. Ask in other words."
            )
        return self._reduce.transform(weights)[0]
