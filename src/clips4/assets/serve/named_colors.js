// Colors that names have of themselves; Python reads the same object as JSON (outputs/class_colors.py).

/** @type {Record<string, string>} */
export const NAMED_COLORS = {
  "sky": "#7cc4f5", "cloud": "#c9d8e8", "sea": "#1f6fb2", "ocean": "#1f6fb2", "water": "#2f8fd0", "river": "#3d9bd6",
  "lake": "#2b7fc0", "pool": "#27b5d6", "rain": "#6f93b5", "ice": "#b8e6f2", "snow": "#e8f1fa", "fog": "#c4ccd4",
  "grass": "#4caf3a", "lawn": "#4caf3a", "field": "#9dbb3c", "meadow": "#7fb83d", "tree": "#1f7a2e", "forest": "#17602a",
  "bush": "#5f9a3c", "plant": "#3fa06a", "potted plant": "#3fa06a", "pottedplant": "#3fa06a", "vegetation": "#2d8a3a", "leaf": "#6fb544",
  "flower": "#e85aa8", "moss": "#7a8f35", "terrain": "#8f9c4a",
  "ground": "#9a7b52", "earth": "#8a6642", "soil": "#7a5636", "dirt": "#8f6b45", "mud": "#6b4c30", "sand": "#e3c98a",
  "beach": "#ead59a", "rock": "#8c8580", "stone": "#99918a", "gravel": "#a39c92", "mountain": "#857062", "hill": "#8f8a4f",
  "road": "#6a6a72", "street": "#6a6a72", "sidewalk": "#d48ac4", "pavement": "#cf86bd", "path": "#b59a78",
  "railroad": "#7d5f5a", "railing": "#a9a17f", "parking": "#b59bd0", "bridge": "#9c7f6c",
  "building": "#b5654a", "house": "#c4735a", "skyscraper": "#8e9db5", "wall": "#b9a78f", "fence": "#bf9a5a",
  "roof": "#9c4838", "door": "#8a5a30", "window": "#a8dce8", "floor": "#b58e62", "ceiling": "#e6dcc8", "stairs": "#a58f7c",
  "curtain": "#c97fb5", "rug": "#a8546c", "carpet": "#a8546c",
  "person": "#e0533d", "man": "#e0533d", "woman": "#ef7a62", "child": "#f59a7a", "people": "#e0533d",
  "pedestrian": "#e0533d", "rider": "#f0306a", "bicyclist": "#f0306a", "face": "#f2b08e", "hand": "#eda988",
  "car": "#2f4fd0", "truck": "#1a2f8f", "bus": "#f2b705", "train": "#0f8f8f", "tram": "#17a5a0", "motorcycle": "#7a3fd0", "motorbike": "#7a3fd0",
  "bicycle": "#b02fb8", "bike": "#b02fb8", "airplane": "#7f96e0", "aeroplane": "#7f96e0", "boat": "#f2762e", "ship": "#d96a24", "rocket": "#d63a8f",
  "pole": "#c2c2a0", "column": "#c2c2a0", "traffic light": "#ffcf2e", "traffic sign": "#f5e642", "sign": "#f5e642",
  "symbol": "#f5e642", "stop sign": "#d7263d",
  "cat": "#f59e2e", "dog": "#a6642a", "horse": "#7a4526", "cow": "#5b4a6b", "sheep": "#e6d9c4", "bird": "#35b5e5",
  "elephant": "#8a86c4", "bear": "#5e3a22", "zebra": "#2b2f38", "giraffe": "#e0a83c", "fish": "#ff8a5c",
  "apple": "#d8302f", "orange": "#ff8c1a", "banana": "#ffdf3d", "carrot": "#f2701f", "broccoli": "#3d8f35",
  "lemon": "#fff04a", "tomato": "#e83a2a", "bread": "#cf9a55", "pizza": "#e08a3a", "cake": "#f2b8c6",
  "coffee": "#5a3a26", "fire": "#ff5a1f", "sun": "#ffd23d", "wood": "#a0703d", "metal": "#9aa5ad", "glass": "#b5e5e0",
  "table": "#a5682e", "diningtable": "#a5682e", "chair": "#d08a4a", "sofa": "#9f4f8f", "couch": "#9f4f8f", "bed": "#7f6fb5",
  "book": "#8a3f6f", "cup": "#2fb5a0", "bottle": "#2f9f6f", "screen": "#3a4a66", "tv": "#3a4a66", "tvmonitor": "#3a4a66", "laptop": "#4f7a9f",
  "background": "#3c3c3c"
};
