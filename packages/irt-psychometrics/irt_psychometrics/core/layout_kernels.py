"""Compiled loops that count responses and lay them out as `kernels` describes. No item parameters are involved."""

import numpy as np

from irt_psychometrics.core.kernels import _kernel


@_kernel
def hash_rows(start, item, key, out):  # type: ignore[no-untyped-def]
    """out[i] = Σ key[item] over the items of row i, modulo 2⁶⁴; equal for the same items in any order."""
    for i in range(out.size):
        total = np.uint64(0)
        for r in range(start[i], start[i + 1]):
            total += key[item[r]]
        out[i] = total


@_kernel
def hash_persons(person, start, item, score, key, step, out):  # type: ignore[no-untyped-def]
    """out[k] = Σ (key[item, score] + step · score) over the answers of person[k], modulo 2⁶⁴.

    If the key has a single column, the sum of keys is equal for the same items with any scores.
    """
    last = key.shape[1] - 1
    for k in range(person.size):
        total = np.uint64(0)
        for r in range(start[person[k]], start[person[k] + 1]):
            total += key[item[r], min(score[r], last)] + step * np.uint64(score[r])
        out[k] = total


@_kernel
def number_codes(code, table, number, first):  # type: ignore[no-untyped-def]
    """Number the different codes in the order of their first place, which is written to `first`; returns how many.

    number[k] is the number of code[k]. `table` is a hash table, filled with −1. The length of the table is a power of
    2 above the number of codes.
    """
    n = 0
    mask = np.uint64(table.size - 1)
    for k in range(code.size):
        slot = code[k] & mask
        while table[slot] >= 0 and code[first[table[slot]]] != code[k]:
            slot = (slot + np.uint64(1)) & mask
        if table[slot] < 0:
            table[slot] = n
            first[n] = k
            n += 1
        number[k] = table[slot]
    return n


@_kernel
def tally_marked(person, row, start, item, score, flipped, weight, row_start, items, tally):  # type: ignore[no-untyped-def]
    """Write the items with marked answers (see `count_marked`) of each row's persons, and the weights of these answers.

    `row` contains the row of each person, in ascending order. Row s has the entries row_start[s] … row_start[s + 1] − 1
    of `items` and `tally`. Returns the number of entries.
    """
    found, touched = np.zeros(flipped.size), np.empty(flipped.size, dtype=np.int64)
    w, n = 0, 0
    row_start[0] = 0
    for k in range(person.size):
        i = person[k]
        for r in range(start[i], start[i + 1]):
            j = item[r]
            if (score[r] == 1) != flipped[j]:
                if found[j] == 0.0:
                    touched[n] = j
                    n += 1
                found[j] += weight[i]
        if k + 1 == person.size or row[k + 1] != row[k]:
            for t in range(n):
                items[w] = touched[t]
                tally[w] = found[touched[t]]
                found[touched[t]] = 0.0
                w += 1
            row_start[row[k] + 1] = w
            n = 0
    return w


@_kernel
def hash_answers(person, start, item, score, key, out):  # type: ignore[no-untyped-def]
    """out[j] += Σ key[k, score] over the answers of each person[k] to item j; equal for equal answers."""
    for k in range(person.size):
        for r in range(start[person[k]], start[person[k] + 1]):
            out[item[r]] += key[k, score[r]]


@_kernel
def count_scores(person, item, score, weight, out):  # type: ignore[no-untyped-def]
    """Add the weights of wrong and right answers to each item to out (J, 2)."""
    for r in range(item.size):
        out[item[r], score[r]] += weight[person[r]]


@_kernel
def row_starts(person, out):  # type: ignore[no-untyped-def]
    """Fill `out` so that person i has the rows out[i] … out[i + 1] − 1; `person` is the sorted person of each row."""
    i = 0
    for r in range(person.size):
        while i <= person[r]:
            out[i] = r
            i += 1
    while i < out.size:
        out[i] = person.size
        i += 1


@_kernel
def join_items(person, start, item, parent):  # type: ignore[no-untyped-def]
    """Join the items that each of these persons saw: joined items have the same `root` afterwards (union-find)."""
    for i in person:
        if start[i] < start[i + 1]:
            one = root(parent, item[start[i]])
            for r in range(start[i] + 1, start[i + 1]):
                other = root(parent, item[r])
                if other < one:
                    one, other = other, one
                parent[other] = one


@_kernel
def root(parent, j):  # type: ignore[no-untyped-def]
    while parent[j] != j:
        parent[j] = parent[parent[j]]
        j = parent[j]
    return j


@_kernel
def take_rows(person, start, item, into):  # type: ignore[no-untyped-def]
    """Write the items of these persons one after the other into `into`."""
    w = 0
    for i in person:
        for r in range(start[i], start[i + 1]):
            into[w] = item[r]
            w += 1


@_kernel
def count_marked(person, start, item, score, flipped, out):  # type: ignore[no-untyped-def]
    """out[k] = number of marked answers of person[k]: correct answers, but wrong answers to items `flipped` (J,)."""
    for k in range(person.size):
        total = 0
        for r in range(start[person[k]], start[person[k] + 1]):
            total += (score[r] == 1) != flipped[item[r]]
        out[k] = total


@_kernel
def take_marked(person, start, item, score, flipped, into):  # type: ignore[no-untyped-def]
    """Write the items counted by `count_marked` one person after the other into `into`."""
    w = 0
    for i in person:
        for r in range(start[i], start[i + 1]):
            if (score[r] == 1) != flipped[item[r]]:
                into[w] = item[r]
                w += 1


@_kernel
def count_listed(people, seen, listed):  # type: ignore[no-untyped-def]
    """Add the weights of persons who saw an item to `seen` (J,), and of persons who have it listed to `listed` (J,)."""
    for i in range(people.set_of.size):
        s = people.set_of[i]
        for r in range(people.set_start[s], people.set_start[s + 1]):
            seen[people.set_items[r]] += people.weight[i]
        if people.tally.size > 0:
            for r in range(people.tally_start[i], people.tally_start[i + 1]):
                listed[people.tally_items[r]] += people.tally[r]
        else:
            for r in range(people.right_start[i], people.right_start[i + 1]):
                listed[people.right_items[r]] += people.weight[i]


@_kernel
def mark_rare(people, rare, out):  # type: ignore[no-untyped-def]
    """out[i] = whether person i gave any rare answer; rare (2, J) marks rare answers, not listed and listed ones."""
    known = np.zeros(rare.shape[1], dtype=np.bool_)
    for i in range(out.size):
        out[i] = False
        for r in range(people.right_start[i], people.right_start[i + 1]):
            j = people.right_items[r]
            known[j] = True
            out[i] |= rare[1, j]
        for r in range(people.set_start[people.set_of[i]], people.set_start[people.set_of[i] + 1]):
            j = people.set_items[r]
            out[i] |= rare[0, j] and not known[j]
            known[j] = False
