"""What a run says: `Run` and `Segments` of backends/vulkan/run.glsl, and pages of a cache."""

from jitllm.kernels.gpu.vocabulary import inline, load_i32, load_i64, load_u32, remainder_u32

PAGE = 64  # cells of a page, cache_types.PAGE_TOKENS


@inline
def n_rows(run):
    """Return how many rows a run has."""
    return load_u32(run)


@inline
def segment_of(run, row):
    """Return the number of a row's segment."""
    return load_u32(load_i64(run + 24) + 4 * row)


@inline
def position_of(run, segment, row):
    """Return the position of a row of a segment."""
    at = load_i64(run + 8) + 32 * segment
    return load_i32(at + 8) + row - load_i32(at)


@inline
def table_of(run, segment, n_caches, cache):
    """Return where the page numbers of a segment in one cache are, and how many there are."""
    tables = load_i64(run + 16)
    entry = tables + 8 * (segment * n_caches + cache)
    return tables + 4 * load_u32(entry), load_u32(entry + 4)


@inline
def page_at(numbers, length, block):
    """Return the number of the page of a block of cells; tables of rings begin again."""
    return load_u32(numbers + 4 * remainder_u32(block, length))


@inline
def page_of(run, segment, n_caches, cache, block, pages, page_bytes):
    """Return the address of the page of a block of a segment's cells in one cache."""
    numbers, length = table_of(run, segment, n_caches, cache)
    return pages + page_at(numbers, length, block) * page_bytes
