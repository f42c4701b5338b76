"""The exceptions of jitllm.

::

    JitllmError
    ├── ModelFormatError (ValueError)         a file is not what it should be
    │   └── GGUFError                         ... with the name of what and where
    ├── ModelNotFoundError (FileNotFoundError)  a reference leads to no file
    ├── UnsupportedArchitecture (NotImplementedError)
    ├── UnsupportedFormat (NotImplementedError)   a tensor type
    ├── UnsupportedTokenizer (NotImplementedError)
    ├── ContextLengthExceeded (ValueError)
    ├── HookError (ValueError)                a hook name or the array a hook returned
    ├── ChatTemplateError (ValueError)
    ├── StateError (ValueError)               a saved state is damaged, or does not fit
    ├── ClosedError (RuntimeError)            the object was closed
    └── BackendError (RuntimeError)           a device cannot do what was asked

Each message says what was expected, what came, and what to do.
"""


class JitllmError(Exception):
    """Base of all errors raised on purpose."""


class ModelFormatError(JitllmError, ValueError):
    """A model file is damaged, or holds what no model should."""


class GGUFError(ModelFormatError):
    """A GGUF file is damaged or truncated; the message names what and where."""


class ModelNotFoundError(JitllmError, FileNotFoundError):
    """A model reference leads to no file, or the network is needed and is not there."""


class UnsupportedArchitecture(JitllmError, NotImplementedError):
    """The file's `general.architecture` has no file in `llm/models`, or cannot do what was asked.

    An encoder cannot generate, and only a model with a classifier can rerank.
    """


class UnsupportedFormat(JitllmError, NotImplementedError):
    """A tensor type has no file in `kernels/formats`."""


class UnsupportedTokenizer(JitllmError, NotImplementedError):
    """The file's `tokenizer.ggml.model` or `tokenizer.ggml.pre` is not known."""


class ContextLengthExceeded(JitllmError, ValueError):
    """More tokens than the context holds."""


class HookError(JitllmError, ValueError):
    """A hook point does not exist, or a hook returned an array that does not fit."""


class ChatTemplateError(JitllmError, ValueError):
    """A chat template does not compile or refused its input."""


class StateError(JitllmError, ValueError):
    """A state file is damaged, from another model, or lacks what was asked for.

    Also what a model's memory cannot do, such as moving recurrent states to other positions.
    """


class ClosedError(JitllmError, RuntimeError):
    """The model or sequence was closed."""


class BackendError(JitllmError, RuntimeError):
    """A device is not there, or cannot do what was asked."""
