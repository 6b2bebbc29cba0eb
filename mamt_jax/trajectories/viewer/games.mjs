/**
 * The games that a page can play, by the names of their environments.
 *
 * A game is a record of pure functions of its options (those of the Python environment, and its
 * `name`) and a state of plain arrays:
 *
 *   reset(options, random)                 a start; random() is uniform in [0, 1)
 *   observe(options, state)                [n][O], as the policies were trained on
 *   step(options, state, actions, random)  {state, reward [n], terminated, truncated}
 *   view(options, state)                   what is drawn, by the names of Python's `view_fields`
 *   place(options, state, field, index, [x, y])  the state with one entry of a movable field there
 *   movable                                fields of `view` whose entries can be put elsewhere, each
 *                                          with the field that says which of them are there, or ""
 *   toggle(options, state, [x, y])         with one thing more or less there; not in every game
 */

import { roverTowerGame, spreadGame } from "./particles.mjs";
import { pursuitGame } from "./pursuit.mjs";

export const GAMES = {
  spread: spreadGame,
  spread3_sep: spreadGame,
  spread3_mix: spreadGame,
  spread3_ful: spreadGame,
  rover_tower: roverTowerGame,
  pursuit: pursuitGame,
};
